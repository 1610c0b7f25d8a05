//! Files for TLS.

use super::*;

const CERT: (&str, &str) = ("ROOMCAST_SERVER__TLS__CERT_FILE", "/tls/tls.crt");
const KEY: (&str, &str) = ("ROOMCAST_SERVER__TLS__KEY_FILE", "/tls/tls.key");
const CLIENT_CA: (&str, &str) = ("ROOMCAST_SERVER__TLS__CLIENT_CA_FILE", "/tls/ca.crt");

#[test]
fn certificate_and_key_turn_it_on_together() {
    let config = load(&variables(&[])).unwrap().config;
    assert_eq!(config.server.tls, TlsConfig { pair: None, ca_file: None });
    let loaded = load(&variables(&[CERT, KEY, CLIENT_CA])).unwrap();
    let tls =
        TlsConfig { pair: Some((CERT.1.into(), KEY.1.into())), ca_file: Some(CLIENT_CA.1.into()) };
    assert_eq!(loaded.config.server.tls, tls);
    let dump = loaded.dump();
    let section = "[server.tls]\n\
                   cert_file = \"/tls/tls.crt\" # variable ROOMCAST_SERVER__TLS__CERT_FILE\n";
    assert!(dump.contains(section), "{dump}");
    let file = file(&dump);
    let again = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    assert_eq!(load(&again).unwrap().config, loaded.config);

    for (set, missing) in [(CERT, "key_file"), (KEY, "cert_file")] {
        let errors = errors_of_variables(&[set, CLIENT_CA]);
        assert_eq!(errors.len(), 1, "{errors:?}");
        let expected = format!("is set, but server.tls.{missing} is not");
        assert!(errors[0].ends_with(&expected), "{errors:?}");
    }
    assert_eq!(
        errors_of_variables(&[CLIENT_CA]),
        ["server.tls.client_ca_file (variable ROOMCAST_SERVER__TLS__CLIENT_CA_FILE) is set, \
          but server.tls.cert_file is not"]
    );
}

#[test]
fn layers_meet_in_the_section() {
    let file = file("[server.tls]\ncert_file = \"/file/crt\"\nkey_file = \"/file/key\"\n");
    let sources = Sources { file: Some(file.path().to_owned()), ..variables(&[KEY]) };
    let config = load(&sources).unwrap().config;
    assert_eq!(config.server.tls.pair, Some(("/file/crt".into(), KEY.1.into())));
    assert_eq!(config.server.addr, "127.0.0.1:50051".parse().unwrap());

    assert_eq!(
        errors_of_file("[server]\ntls = true\n[redis.tls]\nca_fil = \"x\"\n[redis.tls.key_file]"),
        [
            "unknown key redis.tls.ca_fil (file FILE); did you mean redis.tls.ca_file?",
            "server.tls (file FILE) is a section with keys of its own, \
             such as server.tls.cert_file",
            "redis.tls.key_file = a table (file FILE): must be the path of a file",
            "redis.tls.key_file (file FILE) is set, but redis.tls.cert_file is not",
            "redis.tls.key_file (file FILE) is set, but redis.url is not",
        ]
    );
}

#[test]
fn for_redis_it_needs_a_url_that_asks_for_it() {
    let ca = ("ROOMCAST_REDIS__TLS__CA_FILE", "/ca.crt");
    let url = |url| ("ROOMCAST_REDIS__URL", url);
    let redis = load(&variables(&[ca, url("rediss://cache")])).unwrap().config.redis;
    assert!(redis.url.unwrap().is_tls());
    assert_eq!(redis.tls, TlsConfig { pair: None, ca_file: Some("/ca.crt".into()) });
    assert!(load(&variables(&[url("rediss://cache:6380/1")])).is_ok());
    assert_eq!(
        errors_of_variables(&[ca, url("redis://cache")]),
        ["redis.tls.ca_file = \"/ca.crt\" (variable ROOMCAST_REDIS__TLS__CA_FILE): must be \
          left out, as redis.url is not rediss://"]
    );
    assert_eq!(
        errors_of_variables(&[ca]),
        ["redis.tls.ca_file (variable ROOMCAST_REDIS__TLS__CA_FILE) is set, \
          but redis.url is not"]
    );
    let errors = errors_of_variables(&[url("rediss://cache#insecure")]);
    assert!(errors[0].ends_with("#insecure is not supported, certificates are verified"));
}
