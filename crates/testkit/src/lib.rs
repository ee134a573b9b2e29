//! What the tests control: chance, time and the operating system. A development dependency only.
