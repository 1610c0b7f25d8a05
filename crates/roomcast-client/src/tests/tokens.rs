//! Access tokens: how they are shown, renewed and refused.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use roomcast_proto::room::ErrorReason;

use super::{
    server::{Line, SOON, Stage},
    *,
};

fn token(text: &str) -> AccessToken {
    AccessToken::parse(text).unwrap()
}

/// Gives `token-1`, `token-2` and so on, each but for those of which `gives` says otherwise.
fn source<T>(gives: impl Fn(usize) -> T + Send + Sync + 'static) -> TokenSource
where
    T: Future<Output = Result<AccessToken, &'static str>> + Send + 'static,
{
    let calls = Arc::new(AtomicUsize::new(1));
    TokenSource::new(move || gives(calls.fetch_add(1, Relaxed)))
}

fn numbered() -> TokenSource {
    source(|number| async move { Ok(token(&format!("token-{number}"))) })
}

fn shown(line: &Line) -> &str {
    line.authorization.as_deref().unwrap_or("nothing")
}

impl Stage {
    fn with(&self, tokens: TokenSource) -> Connector {
        Connector::new(self.addr.clone()).with_tokens(tokens)
    }

    /// How joining ends when each attempt is refused so.
    async fn refused(&mut self, tokens: TokenSource, reason: ErrorReason, times: usize) -> Error {
        let joining = Client::join(self.with(tokens), Options::new("lobby", "bob"));
        let refusing = async {
            for _ in 0..times {
                let mut line = self.line().await;
                line.hears_join().await;
                line.refuses(Code::Unauthenticated, reason, "for a reason").await;
            }
        };
        tokio::join!(joining, refusing).0.unwrap_err()
    }
}

/// The last word that is told.
async fn last(events: &mut Events) -> Error {
    loop {
        let next = timeout(SOON, events.next()).await.expect("nothing is told");
        match next.expect("an end") {
            Ok(Update::Disconnected { .. }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn it_is_shown_with_every_stream_and_call_and_renewed_without_a_break() {
    let mut stage = Stage::open().await;
    let (bob, mut events, mut line) = stage.bob_by(stage.with(numbered())).await;
    assert_eq!(shown(&line), "Bearer token-1");
    let first = async || bob.members(1).await.unwrap().members[0].username.clone();
    assert_eq!(first().await, "Bearer token-10");
    line.expires_in(Duration::from_millis(100)).await;
    assert_eq!(line.hears_token().await, "token-2");
    assert_eq!(first().await, "Bearer token-20");
    // What is said goes on.
    line.tells(11, "eve", text("one")).await;
    hears(&mut events, 11, "one").await;
    // A new stream shows the newest, and is not shown it again.
    drop(line);
    let mut line = stage.line().await;
    assert_eq!(shown(&line), "Bearer token-2");
    line.hears_join().await;
    line.welcomes(11, true, 0).await;
    comes_back(&mut events, true).await;
    let (said, ()) = tokio::join!(bob.say("hello"), async {
        assert_eq!(line.hears_say().await.0, 1);
        line.acks(1, 12, false).await;
    });
    assert!(said.is_ok(), "{said:?}");
    // One that is known to have expired is not shown to the next server.
    line.expires_in(Duration::ZERO).await;
    line.ends(Code::Unavailable, "away").await;
    let line = stage.line().await;
    assert_eq!(shown(&line), "Bearer token-3");
}

#[tokio::test]
async fn a_source_that_fails_panics_and_hangs_holds_up_nothing() {
    let mut stage = Stage::open().await;
    let tokens = source(|number| async move {
        match number {
            2 => Err("it is away"),
            3 => panic!("a bug"),
            4 => std::future::pending().await,
            // The same as before is none.
            5 => Ok(token("token-1")),
            _ => Ok(token(&format!("token-{number}"))),
        }
    });
    let tokens = tokens.within(Duration::from_millis(300));
    let (bob, mut events, mut line) = stage.bob_by(stage.with(tokens)).await;
    line.expires_in(Duration::ZERO).await;
    // The stream goes on meanwhile.
    let going_on = async {
        for seq in 11.. {
            line.tells(seq, "eve", text("news")).await;
            hears(&mut events, seq, "news").await;
            if let Ok(newer) = timeout(Duration::from_millis(100), line.hears_token()).await {
                return newer;
            }
        }
        unreachable!("there are enough numbers");
    };
    let newer = timeout(SOON, going_on).await.expect("no newer token is shown");
    assert_eq!(newer, "token-6");
    drop(bob);
}

#[tokio::test]
async fn a_token_that_has_expired_is_replaced_before_the_session_is_resumed() {
    let mut stage = Stage::open().await;
    let (_bob, mut events, line) = stage.bob_by(stage.with(numbered())).await;
    line.refuses(Code::Unauthenticated, ErrorReason::TokenExpired, "token expired").await;
    let mut line = stage.line().await;
    assert_eq!(shown(&line), "Bearer token-2");
    assert_eq!(line.hears_join().await.session_token, b"secret");
    line.welcomes(10, true, 0).await;
    comes_back(&mut events, true).await;
    // It was good, and a server far away took its time: it may have expired as well.
    line.ends(Code::Unavailable, "away").await;
    let mut line = stage.line().await;
    assert_eq!(shown(&line), "Bearer token-2");
    line.hears_join().await;
    line.refuses(Code::Unauthenticated, ErrorReason::InvalidToken, "token expired").await;
    let mut line = stage.line().await;
    assert_eq!(shown(&line), "Bearer token-3");
    line.hears_join().await;
    line.refuses(Code::Unauthenticated, ErrorReason::InvalidToken, "badly signed").await;
    let refused = Error::InvalidToken { message: "badly signed".to_owned() };
    assert_eq!(last(&mut events).await, refused);
}

#[tokio::test]
async fn refusals_say_whether_a_newer_token_helps() {
    let mut stage = Stage::open().await;
    let fixed = || TokenSource::fixed(token("secret"));
    let message = "for a reason".to_owned();
    let invalid = Error::InvalidToken { message: message.clone() };
    for tokens in [fixed(), numbered()] {
        let refused = stage.refused(tokens, ErrorReason::InvalidToken, 1).await;
        assert_eq!(refused, invalid);
    }
    assert_eq!(stage.refused(fixed(), ErrorReason::TokenExpired, 1).await, Error::TokenExpired);
    let forbidden = Error::Forbidden { message };
    assert_eq!(stage.refused(numbered(), ErrorReason::Forbidden, 1).await, forbidden);

    // A fixed one has no successor.
    let (_bob, mut events, line) = stage.bob_by(stage.with(fixed())).await;
    line.expires_in(Duration::ZERO).await;
    line.refuses(Code::Unauthenticated, ErrorReason::TokenExpired, "token expired").await;
    assert_eq!(last(&mut events).await, Error::TokenExpired);

    // A newer one has to be of the same subject, whether it is shown on the stream or to resume.
    let (_bob, mut events, mut line) = stage.bob_by(stage.with(numbered())).await;
    line.expires_in(Duration::ZERO).await;
    line.hears_token().await;
    let why = "the newer token is for another subject";
    line.refuses(Code::PermissionDenied, ErrorReason::Forbidden, why).await;
    assert_eq!(last(&mut events).await, Error::Forbidden { message: why.to_owned() });
    let (_bob, mut events, line) = stage.bob_by(stage.with(numbered())).await;
    line.refuses(Code::Unauthenticated, ErrorReason::TokenExpired, "token expired").await;
    let mut line = stage.line().await;
    line.hears_join().await;
    let reason = ErrorReason::InvalidSessionToken;
    line.refuses(Code::PermissionDenied, reason, "this is not the session's token").await;
    let refused = last(&mut events).await.to_string();
    assert!(refused.contains("belongs to another subject"), "{refused}");
}

#[tokio::test]
async fn who_gets_no_token_in_time_does_not_come_in() {
    let stage = Stage::open().await;
    let mut options = Options::new("lobby", "bob");
    options.join_within = Some(Duration::ZERO);
    let away = stage.with(source(|_| async { Err("it is away") }));
    let refused = Client::join(away, options).await.unwrap_err();
    assert_eq!(refused.to_string(), "cannot get a token: it is away");
}

#[tokio::test]
async fn a_token_goes_to_no_other_machine_over_plain_text() {
    let join = async |connector: Connector| {
        let mut options = Options::new("lobby", "bob");
        options.join_within = Some(Duration::ZERO);
        Client::join(connector, options).await.unwrap_err()
    };
    // Nobody answers there: RFC 5737.
    let addr = Address::parse("192.0.2.1:1").unwrap();
    let here = Address::parse("127.0.0.1:1").unwrap();
    let connector = Connector::new(here).or(addr.clone());
    let connector = connector.with_tokens(TokenSource::fixed(token("secret")));
    assert_eq!(join(connector.clone()).await, Error::InsecureToken { addr });
    assert!(!format!("{connector:?}").contains("secret"), "{connector:?}");
    let allowed = join(connector.allow_insecure_tokens()).await;
    assert!(matches!(allowed, Error::GaveUp { .. }), "{allowed:?}");
}
