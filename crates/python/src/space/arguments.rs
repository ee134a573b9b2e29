//! The arguments of what is asked of a space, read.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use thistledown_space::{How, Template, Wanted};

use super::fields;
use crate::channel::capacity;
use crate::current::seconds;
use crate::errors;

/// What to look for, for how long.
pub(crate) fn wanted(template: &Bound<'_, PyAny>, how: How) -> PyResult<Wanted> {
    Ok(Wanted { template: fields::template(template)?, how, within: None, held: false })
}

/// A lease: seconds, more than none; nothing is without end.
pub(crate) fn lease(seconds_given: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds_given {
        Some(0.0) => Err(errors::wrong_value("a lease must be longer than 0 seconds")),
        Some(given) => seconds(given, "lease"),
        None => Ok(None),
    }
}

pub(super) fn how(lease_given: Option<f64>) -> PyResult<How> {
    Ok(match lease_given {
        None => How::Take,
        Some(_) => How::Claim(lease(lease_given)?.unwrap_or(Duration::MAX)),
    })
}

/// How much a watch keeps.
pub(super) fn of_watch(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    capacity(given, 1)
}

/// The name of a file, as the standard library takes it: a text, bytes, or what gives one.
pub(super) fn path_or_none(given: &Bound<'_, PyAny>) -> PyResult<Option<PathBuf>> {
    if given.is_none() {
        return Ok(None);
    }
    given.py().import("os")?.call_method1("fsdecode", (given,))?.extract().map(Some)
}

pub(super) fn fsync_or_not(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    flag(given, "fsync")
}

pub(super) fn repair_or_not(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    flag(given, "repair")
}

fn flag(given: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    given.extract().map_err(|_| {
        errors::wrong_type(format!("{name} is True or False, got {}", errors::shown(given, "something else")))
    })
}

pub(super) fn any_or(template: Option<&Bound<'_, PyAny>>) -> PyResult<Template> {
    template.map_or(Ok(Template::Anything), fields::template)
}
