//! The URL of Redis and its secrets.

use super::*;

#[test]
fn secrets_come_from_files_too() {
    let (url, password) = (file("redis://cache:6379/1\n"), file("hunter2\r\n"));
    let (url, password) = (url.path().to_str().unwrap(), password.path().to_str().unwrap());
    let loaded = load(&variables(&[
        ("ROOMCAST_REDIS__URL_FILE", url),
        ("ROOMCAST_REDIS__PASSWORD_FILE", password),
    ]))
    .unwrap();
    let redis = &loaded.config.redis;
    assert_eq!(redis.url.as_ref().unwrap().servers().collect::<Vec<_>>(), ["redis://cache:6379/1"]);
    assert_eq!(redis.password.as_ref().unwrap().expose(), "hunter2");
    assert!(loaded.dump().contains(password));
}

#[test]
fn a_secret_is_given_once_and_with_its_server() {
    let secret = file("hunter2");
    let path = secret.path().to_str().unwrap();
    assert_eq!(
        errors_of_variables(&[
            ("ROOMCAST_REDIS__PASSWORD", "hunter2"),
            ("ROOMCAST_REDIS__PASSWORD_FILE", path),
            ("ROOMCAST_REDIS__URL", "redis://:hunter2@cache"),
        ]),
        [
            "redis.password (variable ROOMCAST_REDIS__PASSWORD) and redis.password_file \
             (variable ROOMCAST_REDIS__PASSWORD_FILE) exclude each other",
            "redis.url (variable ROOMCAST_REDIS__URL) and redis.password \
             (variable ROOMCAST_REDIS__PASSWORD) exclude each other",
        ]
    );
    assert_eq!(
        errors_of_variables(&[("ROOMCAST_REDIS__PASSWORD", "hunter2")]),
        ["redis.password (variable ROOMCAST_REDIS__PASSWORD) is set, but redis.url is not"]
    );
    let errors = errors_of_variables(&[("ROOMCAST_REDIS__URL_FILE", "/nowhere/url")]);
    assert!(
        errors[0].starts_with("cannot read /nowhere/url (variable ROOMCAST_REDIS__URL_FILE): "),
        "{errors:?}"
    );
}

#[test]
fn only_plain_urls_are_taken() {
    let refusal = |url: &str| errors_of_variables(&[("ROOMCAST_REDIS__URL", url)]).remove(0);
    assert!(refusal("unix:///run/redis.sock").ends_with("unix:// sockets are not supported"));
    for url in ["", "cache:6379", "http://cache", "redis://", "redis://cache/one", "redis:x"] {
        assert!(refusal(url).contains("must be redis://[user[:password]@]host"), "{url}");
    }
}

#[test]
fn sentinels_and_their_master_are_taken_apart() {
    let url = |text: &str| {
        load(&variables(&[("ROOMCAST_REDIS__URL", text)])).map(|it| it.config.redis.url.unwrap())
    };
    let three = url("redis+sentinel://u:pw@one,two:7,[::1]:8/my-master.1/3").unwrap();
    let servers: Vec<_> = three.servers().collect();
    let expected = ["redis://u:pw@one:26379/3", "redis://u:pw@two:7/3", "redis://u:pw@[::1]:8/3"];
    assert_eq!(servers, expected);
    assert_eq!(three.kind(), &RedisKind::Sentinels("my-master.1".to_owned()));
    assert_eq!(
        three.to_string(),
        "redis+sentinel://u:hidden@one:26379,two:7,[::1]:8/my-master.1/3"
    );
    let tls = url("rediss+sentinel://one/m").unwrap();
    assert!(tls.is_tls() && !tls.has_password() && !three.is_tls() && three.has_password());
    assert_eq!(tls.to_string(), "rediss+sentinel://one:26379/m");
    for bad in [
        "redis+sentinel://one",
        "redis+sentinel://one/",
        "redis+sentinel:/one/m",
        "redis+sentinel:///m",
        "redis+sentinel://one,/m",
        "redis+sentinel://one:x/m",
        "redis+sentinel://one/m/x",
        "redis+sentinel://one/m/1/2",
        "redis+sentinel://one/m m",
        "redis+sentinel://one/m?hunter2",
        "redis+sentinel://u:hunter2@one:x,two/m",
    ] {
        let error = url(bad).unwrap_err().to_string();
        assert!(error.contains(", redis+sentinel://[user[:password]@]host[:port]"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_nodes_of_a_cluster_are_taken_apart() {
    let url = |text: &str| {
        load(&variables(&[("ROOMCAST_REDIS__URL", text)])).map(|it| it.config.redis.url.unwrap())
    };
    let three = url("redis+cluster://u:pw@one,two:7,[::1]:8/").unwrap();
    let servers: Vec<_> = three.servers().collect();
    assert_eq!(servers, ["redis://u:pw@one:6379/", "redis://u:pw@two:7/", "redis://u:pw@[::1]:8/"]);
    assert_eq!(three.kind(), &RedisKind::Cluster);
    assert_eq!(three.to_string(), "redis+cluster://u:hidden@one:6379,two:7,[::1]:8");
    let tls = url("rediss+cluster://one/0").unwrap();
    assert!(tls.is_tls());
    assert_eq!(tls.to_string(), "rediss+cluster://one:6379");
    let error = url("redis+cluster://u:hunter2@one/1").unwrap_err().to_string();
    assert!(error.contains("a cluster has no database but 0"), "{error}");
    for bad in
        ["redis+cluster://", "redis+cluster:/one", "redis+cluster://one,", "redis+cluster://one/x"]
    {
        let error = url(bad).unwrap_err().to_string();
        assert!(error.contains(" or redis+cluster://[user[:password]@]host[:port]"), "{error}");
    }
}

#[test]
fn credentials_for_sentinels_belong_to_sentinels() {
    let given = |pairs: &[(&str, &str)]| load(&variables(pairs));
    let (url, user) = ("ROOMCAST_REDIS__URL", "ROOMCAST_REDIS__SENTINEL__USERNAME");
    let password = "ROOMCAST_REDIS__SENTINEL__PASSWORD";
    let there = ("ROOMCAST_REDIS__URL", "redis+sentinel://one/m");
    let loaded = given(&[there, (user, "me"), (password, "hunter2")]).unwrap();
    let sentinel = loaded.config.redis.sentinel.clone();
    assert_eq!(sentinel.username.as_deref(), Some("me"));
    assert_eq!(sentinel.password.unwrap().expose(), "hunter2");
    assert!(!format!("{loaded:?}{}", loaded.dump()).contains("hunter2"));
    assert_eq!(
        errors_of_variables(&[there, (user, "me")]),
        ["redis.sentinel.username (variable ROOMCAST_REDIS__SENTINEL__USERNAME) is set, but \
          redis.sentinel.password is not"]
    );
    assert_eq!(
        errors_of_variables(&[(url, "redis://one"), (password, "hunter2")]),
        [
            "redis.sentinel.password = \"(hidden)\" (variable ROOMCAST_REDIS__SENTINEL__PASSWORD): must be \
          left out, as redis.url is not redis+sentinel://"
        ]
    );
    assert_eq!(
        errors_of_variables(&[(password, "hunter2")]),
        [
            "redis.sentinel.password (variable ROOMCAST_REDIS__SENTINEL__PASSWORD) is set, but redis.url \
          is not"
        ]
    );
    // Of a URL that cannot be read only that is said.
    let errors = errors_of_variables(&[(url, "redis+sentinel://one"), (password, "hunter2")]);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("redis.url = "), "{errors:?}");
}

#[test]
fn durability_is_one_of_two() {
    let durability =
        |pairs: &[(&str, &str)]| load(&variables(pairs)).unwrap().config.redis.durability;
    assert_eq!(durability(&[]), Durability::Local);
    let replicated = [("ROOMCAST_REDIS__DURABILITY", "replicated")];
    assert_eq!(durability(&replicated), Durability::Replicated);
    assert_eq!(
        errors_of_variables(&[("ROOMCAST_REDIS__DURABILITY", "quorum")]),
        [
            "redis.durability = \"quorum\" (variable ROOMCAST_REDIS__DURABILITY): must be \"local\" or \
             \"replicated\""
        ]
    );
}

#[test]
fn a_prefix_is_a_plain_word() {
    let prefix = |text: &str| {
        let variables = variables(&[("ROOMCAST_REDIS__PREFIX", text)]);
        load(&variables).map(|loaded| loaded.config.redis.prefix.as_str().to_owned())
    };
    assert_eq!(load(&variables(&[])).unwrap().config.redis.prefix.as_str(), "rc");
    for good in ["a", "Team_7-b", "0123456789abcdef0123456789ABCDEF"] {
        assert_eq!(prefix(good).unwrap(), good);
    }
    for bad in ["", "a:b", "a b", "rc*", "{rc}", "ä", "0123456789abcdef0123456789abcdef0"] {
        let error = prefix(bad).unwrap_err().to_string();
        assert!(error.contains("redis.prefix"), "{error}");
        assert!(error.contains("must be 1 to 32 characters of a-z A-Z 0-9 _ -"), "{error}");
    }
}

#[test]
fn secrets_never_show() {
    let loaded = load(&variables(&[
        ("ROOMCAST_REDIS__URL", "redis://user@cache"),
        ("ROOMCAST_REDIS__PASSWORD", "hunter2"),
    ]))
    .unwrap();
    let inline = load(&variables(&[("ROOMCAST_REDIS__URL", "redis://u:hunter2@cache")]));
    let inline = inline.unwrap();
    assert!(inline.dump().contains("url = \"redis://u:hidden@cache\""), "{}", inline.dump());
    let mut texts = vec![loaded.dump(), format!("{loaded:?}")];
    texts.extend([inline.dump(), format!("{inline:?}")]);
    for url in [
        "rediss://:hunter2@cache#insecure",
        "redis://:hunter2@cache/x",
        "redis://:hunter2",
        ":hunter2@cache:1",
        "redis:hunter2@cache",
        "redis://cache?password=hunter2",
        "redis://cache#hunter2",
        "redis://me:12/hunter2@cache/x",
        "redis+sentinel://me:12/hunter2@cache/m",
    ] {
        texts.extend(errors_of_variables(&[("ROOMCAST_REDIS__URL", url)]));
    }
    let endpoint = "ROOMCAST_TELEMETRY__OTLP_ENDPOINT";
    for url in [
        "http://me:hunter2@collector:4317",
        "https://hunter2@collector:4317",
        "http://:hunter2",
        "me:hunter2@collector:4317",
        "grpc://me:hunter2@collector?key=hunter2#hunter2",
    ] {
        texts.extend(errors_of_variables(&[(endpoint, url)]));
    }
    let keyed = load(&variables(&[(endpoint, "https://collector/?key=hunter2")])).unwrap();
    texts.extend([keyed.dump(), format!("{:?}", keyed.config)]);
    let secret = file("redis://:hunter2@/");
    let path = secret.path().to_str().unwrap();
    texts.extend(errors_of_variables(&[("ROOMCAST_REDIS__URL_FILE", path)]));
    for text in texts {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
