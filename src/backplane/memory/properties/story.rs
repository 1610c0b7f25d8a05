//! What a room is told, as a whole.

use std::{collections::HashMap, sync::Arc};

use crate::domain::{Event, SessionId, What};

    /// Nobody comes twice without having gone, and nobody goes who had not come; except that
    /// who came back to a lost log may go, or be followed, untold.
    pub(super) fn check_story(told: &[Arc<Event>], log_was_lost: bool) {
        let mut present: HashMap<String, SessionId> = HashMap::new();
        for event in told {
            let name = event.member.name.as_str().to_lowercase();
            let session = event.member.session;
            match event.what {
                What::Joined => {
                    assert_eq!(present.insert(name, session), None, "two under one name");
                }
                What::Left { .. } => {
                    let left = present.remove(&name);
                    assert!(left == Some(session) || log_was_lost, "left without having come");
                }
                What::Unknown => panic!("nobody appended that"),
                What::Said { .. } => {
                    let speaker = present.get(&name);
                    assert!(speaker == Some(&session) || log_was_lost, "a stranger speaks");
                }
            }
        }
    }
