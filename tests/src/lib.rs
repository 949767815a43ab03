//! End-to-end tests.

pub mod webdriver;
