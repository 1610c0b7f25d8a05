//! What Redis tells of itself: whether it can be used.

use super::{RedisRefusal, connect_error::ConnectError};

/// The first version of Redis that will do.
const VERSION: u32 = 7;

/// Reads what Redis tells of itself, if it can be used: its replication id, and by what policy it drops keys,
/// if it does.
pub(super) fn look_at(info: &str, cluster: bool) -> Result<(String, Option<String>), ConnectError> {
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim)
    };
    // As Valkey calls it.
    if field("redis_mode").or(field("server_mode")) == Some("sentinel") {
        let words =
            "redis:// leads to a Sentinel; say redis+sentinel:// and the name of its master";
        return Err(ConnectError::Unfit(RedisRefusal::Sentinel(words.to_owned())));
    }
    match field("cluster_enabled") {
        Some("1") if !cluster => return Err(ConnectError::Unfit(RedisRefusal::Cluster)),
        Some("0") if cluster => {
            let words =
                "redis+cluster:// leads to a Redis that is not part of a cluster; say redis://";
            return Err(ConnectError::Unfit(RedisRefusal::NoCluster(words.to_owned())));
        }
        _ => {}
    }
    // One that does not say is given a try.
    if let Some(version) = field("redis_version")
        && let Some(Ok(major)) = version.split('.').next().map(str::parse::<u32>)
        && major < VERSION
    {
        return Err(ConnectError::Unfit(RedisRefusal::Version(version.to_owned())));
    }
    if field("role").is_some_and(|role| role != "master") {
        return Err(ConnectError::NotMaster);
    }
    let replid = field("master_replid").ok_or(ConnectError::NoReplicationId)?.to_owned();
    let policy = field("maxmemory_policy").filter(|policy| *policy != "noeviction");
    Ok((replid, policy.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_tells_of_itself_is_looked_at() {
        let info = |version: &str, cluster: u8, role: &str| {
            format!(
                "# Server\r\nredis_version:{version}\r\nrole:{role}\r\n\
                 master_replid:abc\r\ncluster_enabled:{cluster}\r\n"
            )
        };
        for version in ["7.0.0", "7.4.1", "8.2.0", "10.0.0", "unstable"] {
            assert_eq!(
                look_at(&info(version, 0, "master"), false).unwrap(),
                ("abc".to_owned(), None)
            );
        }
        for (policy, evicts) in [("noeviction", None), ("allkeys-lru", Some("allkeys-lru"))] {
            let info = format!("{}maxmemory_policy:{policy}\r\n", info("7.0.0", 0, "master"));
            assert_eq!(look_at(&info, false).unwrap().1.as_deref(), evicts);
        }
        let old = look_at(&info("6.2.14", 0, "master"), false).unwrap_err();
        assert_eq!(old.refusal(), Some(RedisRefusal::Version("6.2.14".to_owned())));
        let cluster = look_at(&info("7.0.0", 1, "slave"), false).unwrap_err();
        assert_eq!(cluster.refusal(), Some(RedisRefusal::Cluster));
        assert!(look_at(&info("7.0.0", 1, "master"), true).is_ok());
        let single = look_at(&info("7.0.0", 0, "master"), true).unwrap_err();
        assert!(matches!(single.refusal(), Some(RedisRefusal::NoCluster(_))), "{single}");
        let replica = look_at(&info("7.0.0", 0, "slave"), false).unwrap_err();
        assert!(matches!(replica, ConnectError::NotMaster) && replica.refusal().is_none());
        assert!(matches!(look_at("role:master", false), Err(ConnectError::NoReplicationId)));
        let sentinel =
            look_at("redis_version:7.0.0\r\nredis_mode:sentinel\r\n", false).unwrap_err();
        assert!(matches!(sentinel.refusal(), Some(RedisRefusal::Sentinel(_))), "{sentinel}");
        let valkey = look_at("redis_version:7.2.4\r\nserver_mode:sentinel\r\n", false).unwrap_err();
        assert!(matches!(valkey.refusal(), Some(RedisRefusal::Sentinel(_))), "{valkey}");
    }
}
