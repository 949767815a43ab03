//! What comes over the local socket, and what an administrator writes after `--select`.

use guard_agent::{
    selector::Selector,
    socket::protocol::{COMMAND_MAX, Request, is_session_name},
};

pub(crate) fn run(bytes: &[u8]) -> bool {
    let Ok(request) = Request::parse(bytes) else { return false };
    if let Request::Run { name, command } = &request {
        assert!(is_session_name(name) && command.len() <= COMMAND_MAX);
        assert!(!name.contains(['/', '\\', '"', '\n']), "{name:?}");
    }
    let text = serde_json::to_vec(&request).unwrap();
    assert_eq!(Request::parse(&text).unwrap(), request, "written and read again");
    true
}

pub(crate) fn selector(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(selector) = text.parse::<Selector>() else { return false };
    let shown = selector.to_string();
    assert_eq!(shown.parse::<Selector>().unwrap(), selector, "{shown:?} was {text:?}");
    true
}
