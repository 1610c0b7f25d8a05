//! What can be called, as the descriptors have it.

use std::{collections::HashMap, sync::Arc};

use prost_reflect::{DescriptorPool, MessageDescriptor};

/// The methods by their paths.
#[derive(Debug)]
pub(super) struct Methods(HashMap<String, Arc<Method>>);

/// One method.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) input: MessageDescriptor,
    pub(super) output: MessageDescriptor,
    is_stream: bool,
}

/// Why a path is none of a unary method.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoMethod {
    #[error("there is no such method on this server")]
    Unknown,
    #[error("{0} is a stream: call it by gRPC over HTTP/2")]
    Stream(String),
}

impl Methods {
    /// Of all services that are in there.
    pub(super) fn new(pool: &DescriptorPool) -> Self {
        let methods = pool.services().flat_map(|service| {
            let methods: Vec<_> = service.methods().collect();
            let method = move |method: prost_reflect::MethodDescriptor| {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let is_stream = method.is_client_streaming() || method.is_server_streaming();
                let (input, output) = (method.input(), method.output());
                (path, Arc::new(Method { input, output, is_stream }))
            };
            methods.into_iter().map(method)
        });
        Self(methods.collect())
    }

    /// The unary method of a path.
    pub(super) fn of(&self, path: &str) -> Result<Arc<Method>, NoMethod> {
        let method = self.0.get(path).ok_or(NoMethod::Unknown)?;
        if method.is_stream {
            return Err(NoMethod::Stream(path.trim_start_matches('/').to_owned()));
        }
        Ok(method.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::PUBLIC_DESCRIPTORS;

    #[test]
    fn unary_methods_are_found_and_streams_are_not() {
        let methods = Methods::new(&DescriptorPool::decode(PUBLIC_DESCRIPTORS).unwrap());
        let refused = |path: &str| methods.of(path).err();
        let stream = |method: &str| Some(NoMethod::Stream(method.to_owned()));
        let found = methods.of("/roomcast.v1.RoomService/ListMembers").unwrap();
        assert_eq!(found.input.full_name(), "roomcast.v1.ListMembersRequest");
        assert_eq!(refused("/roomcast.v1.ModerationService/Kick"), None);
        for method in ["roomcast.v1.RoomService/Connect", "chat.ChatService/ChatStream"] {
            assert_eq!(refused(&format!("/{method}")), stream(method));
        }
        for none in ["/", "/roomcast.v1.RoomService/", "roomcast.v1.RoomService/ListMembers"] {
            assert_eq!(refused(none), Some(NoMethod::Unknown), "{none}");
        }
    }
}
