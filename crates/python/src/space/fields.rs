//! Fields: what stands in tuples and templates, from Python's objects into the space's own values, and back.
//!
//! All of Python's own code (pickling, the names of types) runs here, before any lock is taken or after it is let go. Plain
//! values are of exact types; a subclass is something else, and so is whatever has no place among them: it is pickled
//! when it is written, so that who takes it gets a copy, as from any other store.

use std::sync::Arc;

use pyo3::PyTypeInfo;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyAny, PyBool, PyBytes, PyEllipsis, PyFloat, PyInt, PyList, PyNone, PyString, PyTuple, PyType,
    PyTypeMethods,
};
use thistledown_space::{Field, Kind, Large, Other, Template, Tuple, Value};

use crate::errors;

/// Tuples within tuples.
const DEPTH: usize = 100;

/// What a field of a template may be like, from ``between`` and ``one_of``.
#[pyclass(frozen, module = "thistledown._core")]
pub(crate) struct Pattern {
    field: Field,
    /// The function that made it, and of what: so it goes to another process.
    maker: &'static str,
    arguments: Py<PyTuple>,
}

#[pymethods]
impl Pattern {
    fn __repr__(&self) -> String {
        format!("td.{}", self.field)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let maker = py.import("thistledown._core")?.getattr(self.maker)?;
        Ok((maker, self.arguments.bind(py).clone()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.arguments)
    }
}

/// A field of a template: a value from ``low`` to ``high``, both included.
///
/// It finds values of the same type alone: ``between(3, 9)`` whole numbers, ``between(3.0, 9.0)`` floats.
///
/// Args:
///     low, high: two whole numbers, floats, texts or bytes. ``...`` for one of them leaves that end open.
///
/// Returns:
///     What to write in a template.
///
/// Raises:
///     TypeError: they are not of one type, or of none that has an order.
///     ValueError: nothing is between them.
#[pyfunction]
#[pyo3(signature = (low, high, /))]
pub(crate) fn between(low: &Bound<'_, PyAny>, high: &Bound<'_, PyAny>) -> PyResult<Pattern> {
    let (one, two) = (end(low)?, end(high)?);
    let is_empty = match (&one, &two) {
        (Some(one), Some(two)) => match one.compare(two) {
            Some(order) => order.is_gt(),
            None if one.is_of(&Kind::Float) && two.is_of(&Kind::Float) => true,
            None => {
                return Err(errors::wrong_type(format!(
                    "between takes two values of one type, as values compare by type; got {low} and {high}",
                    low = low.repr()?,
                    high = high.repr()?
                )));
            }
        },
        (None, None) => {
            return Err(errors::wrong_type("between needs one end at least: write `...` for anything"));
        }
        (Some(end), None) | (None, Some(end)) => end.compare(end).is_none(),
    };
    if is_empty {
        let (low, high) = (low.repr()?, high.repr()?);
        return Err(errors::wrong_value(format!("nothing is between {low} and {high}")));
    }
    let arguments = PyTuple::new(low.py(), [low, high])?.unbind();
    Ok(Pattern { field: Field::Between(one, two), maker: "between", arguments })
}

fn end(object: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
    if object.is_instance_of::<PyEllipsis>() {
        return Ok(None);
    }
    let value = plain(object, 0)?.filter(Value::has_order);
    value.map(Some).ok_or_else(|| {
        let shown = errors::shown(object, "something else");
        errors::wrong_type(format!("between takes whole numbers, floats, texts or bytes, got {shown}"))
    })
}

/// A field of a template: any of these.
///
/// Args:
///     alternatives: values, types, or what else may be a field of a template; at least one.
///
/// Returns:
///     What to write in a template.
///
/// Raises:
///     TypeError: there is none, or one of them cannot be a field of a template.
#[pyfunction]
#[pyo3(signature = (*alternatives))]
pub(crate) fn one_of(alternatives: &Bound<'_, PyTuple>) -> PyResult<Pattern> {
    if alternatives.is_empty() {
        return Err(errors::wrong_type("one_of needs at least one alternative"));
    }
    let fields: PyResult<_> = alternatives.iter().map(|object| field(&object, 1)).collect();
    Ok(Pattern { field: Field::OneOf(fields?), maker: "one_of", arguments: alternatives.clone().unbind() })
}

/// A tuple to be written.
pub(crate) fn tuple(object: &Bound<'_, PyAny>) -> PyResult<Tuple> {
    let fields = exact_tuple(object, "a space holds tuples")?;
    fields.iter_borrowed().map(|field| value(&field, 1)).collect()
}

fn exact_tuple<'a, 'py>(object: &'a Bound<'py, PyAny>, what: &str) -> PyResult<&'a Bound<'py, PyTuple>> {
    object.cast_exact::<PyTuple>().map_err(|_| {
        let (shown, class) = (errors::shown(object, "something else"), object.get_type());
        match object.is_instance_of::<PyTuple>() {
            true => errors::wrong_type(format!("{what}, plain ones: write `tuple(...)` around {shown}")),
            false if object.is_instance_of::<PyList>() => {
                errors::wrong_type(format!("{what}, not lists: write a tuple, `(\"job\", ...)`, instead of {shown}"))
            }
            false if object.is_instance_of::<PyString>() => errors::wrong_type(format!(
                "{what}, not one of type str: write `({shown},)`, or with more fields `({shown}, ...)`, in brackets of its own"
            )),
            false => {
                let kind = class.name().map_or_else(|_| "something else".into(), |name| name.to_string());
                errors::wrong_type(format!("{what}, not one of type {kind}: write `({shown},)`"))
            }
        }
    })
}

/// A value that can be compared.
fn plain(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Option<Value>> {
    Ok(Some(if object.is_none() {
        Value::None
    } else if let Ok(text) = object.cast_exact::<PyString>() {
        Value::Text(match text.to_str() {
            Ok(text) => text.as_bytes().into(),
            // A lone surrogate.
            Err(_) => {
                let encoded =
                    text.call_method1(intern!(object.py(), "encode"), ("utf-8", "surrogatepass"))?;
                encoded.cast::<PyBytes>()?.as_bytes().into()
            }
        })
    } else if let Ok(number) = object.cast_exact::<PyInt>() {
        match number.extract::<i64>() {
            Ok(number) => Value::Int(number),
            Err(_) => large(number)?,
        }
    } else if let Ok(flag) = object.cast_exact::<PyBool>() {
        Value::Bool(flag.is_true())
    } else if let Ok(number) = object.cast_exact::<PyFloat>() {
        Value::Float(number.value())
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        Value::Bytes(bytes.as_bytes().into())
    } else if let Ok(fields) = object.cast_exact::<PyTuple>() {
        if depth == DEPTH {
            return Err(errors::wrong_value(format!("tuples may be nested {DEPTH} deep")));
        }
        let values: PyResult<Tuple> = fields.iter_borrowed().map(|field| value(&field, depth + 1)).collect();
        Value::Tuple(values?)
    } else {
        return Ok(None);
    }))
}

fn large(number: &Bound<'_, PyInt>) -> PyResult<Value> {
    let py = number.py();
    let negative = number.lt(0)?;
    let magnitude = number.abs()?;
    let bits: usize = magnitude.call_method0(intern!(py, "bit_length"))?.extract()?;
    let bytes = magnitude.call_method1(intern!(py, "to_bytes"), (bits.div_ceil(8), "little"))?;
    Ok(Value::Large(Large::new(negative, bytes.cast::<PyBytes>()?.as_bytes())))
}

fn value(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    match plain(object, depth)? {
        Some(value) => Ok(value),
        None => other(object),
    }
}

/// Something else: the name of its type, and its pickle.
fn other(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    if object.is_instance_of::<PyType>() || is_pattern(object) || object.is_instance_of::<PyEllipsis>() {
        let shown = errors::shown(object, "something else");
        return Err(errors::wrong_type(format!(
            "a tuple holds values, and {shown} is part of a template: `take` and `read` look for it"
        )));
    }
    let kind = kind_name(&object.get_type())?;
    let dumps = DUMPS.import(py, "thistledown._spaces", "pack")?;
    let data = dumps.call1((object,))?;
    let data = data.cast::<PyBytes>()?.as_bytes().into();
    Ok(Value::Other(Arc::new(Other { kind, data })))
}

fn kind_name(class: &Bound<'_, PyType>) -> PyResult<Box<str>> {
    Ok(class.fully_qualified_name()?.to_string_lossy().into())
}

fn is_pattern(object: &Bound<'_, PyAny>) -> bool {
    object.cast_exact::<Pattern>().is_ok()
}

/// What somebody looks for.
pub(crate) fn template(object: &Bound<'_, PyAny>) -> PyResult<Template> {
    if object.is_instance_of::<PyEllipsis>() {
        return Ok(Template::Anything);
    }
    let fields = exact_tuple(object, "templates are tuples, or `...` for any")?;
    let fields: PyResult<_> = fields.iter().map(|object| field(&object, 1)).collect();
    Ok(Template::Fields(fields?))
}

fn field(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Field> {
    if object.is_instance_of::<PyEllipsis>() {
        return Ok(Field::Anything);
    }
    if let Ok(pattern) = object.cast_exact::<Pattern>() {
        return Ok(pattern.get().field.clone());
    }
    if let Ok(class) = object.cast::<PyType>() {
        return kind(class).map(Field::Kind);
    }
    if let Ok(fields) = object.cast_exact::<PyTuple>() {
        if depth == DEPTH {
            return Err(errors::wrong_value(format!("templates may be nested {DEPTH} deep")));
        }
        let fields: PyResult<Vec<Field>> = fields.iter().map(|object| field(&object, depth + 1)).collect();
        return Ok(nested(fields?));
    }
    if let Some(value) = plain(object, depth)? {
        return Ok(Field::Value(value));
    }
    let class = object.get_type();
    let shown = errors::shown(object, "the object");
    let name = class.name()?;
    let instead = match name.to_str()? {
        "UnionType" | "_UnionGenericAlias" => Some("`td.one_of(int, str)` for several types".to_owned()),
        "GenericAlias" | "_GenericAlias" => Some(format!(
            "`{}`, as a type is not looked into",
            object
                .getattr("__origin__")
                .and_then(|origin| origin.getattr("__name__"))
                .map_or_else(|_| "list".to_owned(), |origin| origin.to_string())
        )),
        "function" | "builtin_function_or_method" | "method" => Some(
            "a value, a type, `td.between(...)` or `td.one_of(...)`, as a template calls nothing".to_owned(),
        ),
        _ => None,
    };
    if let Some(instead) = instead {
        return Err(errors::wrong_type(format!("a template cannot look for {shown}: write {instead}")));
    }
    Err(errors::wrong_type(format!(
        "a template finds None, bool, int, float, str, bytes and tuples by value, and all else by type: write {name} \
         instead of {shown}, or put a plain value into the tuple by which to find it",
    )))
}

/// A tuple in a template: a value, when all of it is.
fn nested(fields: Vec<Field>) -> Field {
    if !fields.iter().all(|field| matches!(field, Field::Value(_))) {
        return Field::Tuple(fields.into());
    }
    let values = fields.into_iter().filter_map(|field| match field {
        Field::Value(value) => Some(value),
        _ => None,
    });
    Field::Value(Value::Tuple(values.collect()))
}

fn kind(class: &Bound<'_, PyType>) -> PyResult<Kind> {
    let py = class.py();
    let plain = [
        (PyInt::type_object(py), Kind::Int),
        (PyString::type_object(py), Kind::Text),
        (PyFloat::type_object(py), Kind::Float),
        (PyBool::type_object(py), Kind::Bool),
        (PyBytes::type_object(py), Kind::Bytes),
        (PyTuple::type_object(py), Kind::Tuple),
        (PyNone::type_object(py), Kind::None),
    ];
    if let Some((_, kind)) = plain.into_iter().find(|(known, _)| known.is(class)) {
        return Ok(kind);
    }
    let name = kind_name(class)?;
    if matches!(&*name, "object" | "typing.Any") {
        return Err(errors::wrong_type(format!("write `...` for anything, instead of {name}")));
    }
    Ok(Kind::Other(name))
}

/// A tuple, as Python has it.
pub(crate) fn to_python<'py>(py: Python<'py>, tuple: &[Value]) -> PyResult<Bound<'py, PyTuple>> {
    let fields: PyResult<Vec<_>> = tuple.iter().map(|value| object(py, value)).collect();
    PyTuple::new(py, fields?)
}

fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(match value {
        Value::None => py.None().into_bound(py),
        Value::Bool(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::Large(number) => {
            let magnitude = py
                .get_type::<PyInt>()
                .call_method1(intern!(py, "from_bytes"), (PyBytes::new(py, number.magnitude()), "little"))?;
            if number.is_negative() { magnitude.neg()? } else { magnitude }
        }
        Value::Float(number) => PyFloat::new(py, *number).into_any(),
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => PyString::new(py, text).into_any(),
            Err(_) => {
                PyBytes::new(py, bytes).call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass"))?
            }
        },
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::Tuple(fields) => to_python(py, fields)?.into_any(),
        Value::Other(other) => {
            LOADS.import(py, "_pickle", "loads")?.call1((PyBytes::new(py, &other.data),))?
        }
    })
}
