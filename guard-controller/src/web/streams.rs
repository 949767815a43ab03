//! How many event streams are open: in all, and per user.

use super::limits::{STREAMS_MAX, STREAMS_PER_USER_MAX};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts open streams.
#[derive(Clone, Default)]
pub(crate) struct Streams {
    open: Arc<Mutex<HashMap<String, usize>>>,
}

/// The place of one open stream, given back when dropped.
pub(crate) struct Place {
    streams: Streams,
    user: String,
}

impl Streams {
    /// A place for one more stream of `user`, unless there are too many.
    pub(crate) fn enter(&self, user: &str) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(user).copied().unwrap_or(0);
        if all >= STREAMS_MAX || own >= STREAMS_PER_USER_MAX {
            return None;
        }
        open.insert(user.to_owned(), own + 1);
        Some(Place { streams: self.clone(), user: user.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_streams_and_places_come_back() {
        let streams = Streams::default();
        let mut places: Vec<_> = (0..STREAMS_PER_USER_MAX).map(|_| streams.enter("ann")).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(streams.enter("ann").is_none());
        assert!(streams.enter("bob").is_some());
        places.pop();
        assert!(streams.enter("ann").is_some());
    }

    #[test]
    fn all_users_together_have_a_bounded_number_of_streams() {
        let streams = Streams::default();
        let enter = |n: usize| streams.enter(&format!("user{}", n / STREAMS_PER_USER_MAX));
        let places: Vec<_> = (0..STREAMS_MAX).map_while(enter).collect();
        assert_eq!(places.len(), STREAMS_MAX);
        assert!(streams.enter("one more").is_none());
    }
}
