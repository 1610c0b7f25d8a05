//! All attacks.

use std::pin::Pin;

use super::{
    admin, floods, holding, speaking,
    stage::{Setting, Way},
    target::Target,
    unary,
};

/// An attack, what it is directed at, and by which ways.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) attack: fn(Target) -> Pin<Box<dyn Future<Output = ()>>>,
    pub(super) setting: Setting,
}

impl Case {
    /// How the attacker gets to the replica.
    pub(super) fn ways(&self) -> &'static [Way] {
        match self.setting {
            Setting::Usual => &[Way::Direct, Way::Envoy],
            // Neither is the proxy's business.
            Setting::Tls | Setting::FewDescriptors | Setting::Admin => &[Way::Direct],
        }
    }
}

/// The list of them, and a test for each, at its small length.
macro_rules! attacks {
    ($($setting:ident: $($(#[$attribute:meta])? $module:ident::$name:ident),+ $(,)?;)+) => {
        pub(super) const CASES: &[Case] = &[$($(Case {
            name: stringify!($name),
            attack: |target| Box::pin($module::$name(target)),
            setting: Setting::$setting,
        }),+),+];

        mod small {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                $(#[$attribute])?
                async fn $name() {
                    super::is_borne(stringify!($name)).await;
                }
            )+)+
        }
    };
}

attacks! {
    Usual:
        floods::bursts_of_resets,
        floods::rapid_reset,
        floods::made_you_reset_by_no_window,
        floods::made_you_reset_by_too_much_window,
        floods::made_you_reset_by_late_data,
        floods::made_you_reset_by_late_headers,
        floods::made_you_reset_by_priority,
        floods::made_you_reset_by_length,
        floods::late_data,
        floods::continuations,
        floods::huge_headers,
        floods::hpack_table_sizes,
        floods::hpack_bomb,
        floods::pings,
        floods::settings,
        floods::window_updates,
        floods::priorities,
        floods::empty_data,
        floods::half_open,
        floods::slow_handshakes,
        floods::slow_headers,
        floods::pings_alone,
        floods::connection_churn,
        unary::endless_bodies,
        unary::answers_not_taken,
        unary::list_events,
        unary::calls_without_bodies,
        unary::streams_without_messages,
        unary::health_watches,
        holding::unfinished_messages,
        holding::large_unfinished_messages,
        holding::unread_frames,
        holding::readers_that_take_nothing,
        holding::rooms_with_stalled_readers,
        speaking::a_thousand_heavy_speakers,
        speaking::twenty_heavy_speakers,
        speaking::one_heavy_speaker,
        speaking::new_rooms,
        speaking::comings_and_goings,
        speaking::refused_names,
        speaking::guessed_tokens,
        speaking::struct_bombs,
        speaking::one_message_again;
    Admin:
        admin::silent_admin_connections,
        admin::admin_questions;
    Tls:
        admin::tls_handshakes;
    FewDescriptors:
        floods::more_connections_than_descriptors;
}

/// Runs an attack at its small length, each way.
async fn is_borne(name: &str) {
    let case = CASES.iter().find(|it| it.name == name).expect("a known case");
    for way in case.ways() {
        super::run(case, *way, true).await.assert_borne();
    }
}
