//! The Redis that replicas share.

use std::{path::PathBuf, time::Duration};

use super::{
    reader::Reader,
    redis_url::RedisUrl,
    sections::{TlsConfig, TlsKeys, millis, secs},
    values::{Durability, KeyPrefix, Secret, Setting},
};

/// What replicas share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisConfig {
    /// Where it is, wherever that was read from. `None`: the memory backplane.
    pub url: Option<RedisUrl>,
    /// What every key and every channel begins with.
    pub prefix: KeyPrefix,
    /// Over how many partitions rooms are spread.
    pub partitions: usize,
    /// The password, if the URL has none.
    pub password: Option<Secret>,
    /// How long an operation waits for Redis.
    pub timeout: Duration,
    /// How many connections carry what changes rooms.
    pub connections: usize,
    /// When a message counts as stored.
    pub durability: Durability,
    /// Whom to trust and what to show, where the URL asks for TLS.
    pub tls: TlsConfig,
    /// Who to be to Sentinels.
    pub sentinel: SentinelConfig,
}

/// Who to be to Sentinels that ask for credentials of their own.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SentinelConfig {
    /// The user; without it the default one.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
}

impl SentinelConfig {
    const KEYS: [&str; 3] =
        ["redis.sentinel.username", "redis.sentinel.password", "redis.sentinel.password_file"];

    fn read(reader: &mut Reader, url: &Url) -> Self {
        let [username, password, password_file] = Self::KEYS;
        let config = Self {
            username: reader.optional(username),
            password: inline_or_file(reader, password, password_file),
        };
        let given = Self::KEYS.into_iter().filter(|key| reader.is_set(key)).collect();
        url.needed(
            reader,
            given,
            RedisUrl::has_sentinels,
            "left out, as redis.url is not redis+sentinel://",
        );
        if config.username.is_some() && config.password.is_none() {
            reader.alone(username, password);
        }
        config
    }
}

/// The URL as far as it could be read, and the key that has it.
struct Url {
    value: Option<RedisUrl>,
    key: Option<&'static str>,
}

impl Url {
    /// Complains of keys that were given and say nothing of a URL like this one. Of one that cannot be read only that
    /// is said.
    fn needed(
        &self,
        reader: &mut Reader,
        given: Vec<&'static str>,
        fits: impl Fn(&RedisUrl) -> bool,
        refusal: &'static str,
    ) {
        for key in given {
            match &self.value {
                Some(url) if fits(url) => {}
                Some(_) => reader.refuse_presence(key, refusal),
                None if self.key.is_some() => {}
                None => reader.alone(key, "redis.url"),
            }
        }
    }
}

impl RedisConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let url = inline_or_file::<RedisUrl>(reader, "redis.url", "redis.url_file");
        let prefix = reader.required("redis.prefix");
        let partitions = reader.within("redis.partitions", 1..=4096);
        let password = inline_or_file::<Secret>(reader, "redis.password", "redis.password_file");
        let given = |keys: [&'static str; 2], reader: &Reader| {
            keys.into_iter().find(|key| reader.is_set(key))
        };
        let url = Url { value: url, key: given(["redis.url", "redis.url_file"], reader) };
        let password_key = given(["redis.password", "redis.password_file"], reader);
        match (url.key, password_key) {
            (None, Some(password_key)) => reader.alone(password_key, "redis.url"),
            (Some(url_key), Some(password_key))
                if url.value.as_ref().is_some_and(RedisUrl::has_password) =>
            {
                reader.conflict(url_key, password_key);
            }
            _ => {}
        }
        let timeout = reader.within("redis.timeout", millis(100)..=secs(60));
        let connections = reader.within("redis.connections", 1..=64);
        let durability = reader.required("redis.durability");
        let tls = TlsConfig::read(reader, TlsKeys::REDIS);
        let given = TlsKeys::REDIS.set(reader).collect();
        url.needed(reader, given, RedisUrl::is_tls, "left out, as redis.url is not rediss://");
        let sentinel = SentinelConfig::read(reader, &url);
        let url = url.value;
        Self { url, prefix, partitions, password, timeout, connections, durability, tls, sentinel }
    }
}

fn inline_or_file<T: Setting>(
    reader: &mut Reader,
    inline: &'static str,
    file: &'static str,
) -> Option<T> {
    let value = reader.optional::<T>(inline);
    let path = reader.optional::<PathBuf>(file);
    reader.exclude(inline, file);
    value.or_else(|| reader.content_of(file, &path?))
}
