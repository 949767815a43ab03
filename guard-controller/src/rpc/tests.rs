//! Tests over loopback with a fake guard-agent.
