//! `docs/openapi.json`, made of the descriptors: comments become descriptions, and types those of protobuf's JSON.

use std::{collections::BTreeMap, env, fs};

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    MethodDescriptor,
};
use roomcast_proto::PUBLIC_DESCRIPTORS;
use serde_json::{Value, json};

use crate::deploy::path;

const FILE: &str = "docs/openapi.json";

/// The variable by which the file is written.
const WRITE: &str = "ROOMCAST_WRITE_OPENAPI";

#[test]
fn the_file_is_what_the_descriptors_say() {
    let made = Document::make();
    if env::var_os(WRITE).is_some() {
        let text = format!("{made:#}\n");
        fs::write(path(FILE), text).expect("the file is written");
    }
    let found = fs::read_to_string(path(FILE)).unwrap_or_default();
    let found: Value = serde_json::from_str(&found).unwrap_or_default();
    let again = format!("{WRITE}=1 cargo test --test it openapi");
    assert!(found == made, "{FILE} is not what the definitions say; make it anew: {again}");
}

#[test]
fn it_has_every_call_and_whatever_it_refers_to() {
    let made = Document::make();
    let text = made.to_string();
    assert!(made["paths"]["/roomcast.v1.AdminService/Publish"]["post"].is_object(), "{text}");
    assert!(!text.contains("/roomcast.v1.RoomService/Connect\""), "it is a stream");
    let schemas = &made["components"]["schemas"];
    for name in text.split("#/components/schemas/").skip(1) {
        let name = name.split('"').next().expect("an end");
        assert!(schemas[name].is_object(), "{name}");
    }
    let ban = &schemas["roomcast.v1.BanRequest"];
    assert_eq!(ban["properties"]["duration"]["pattern"], DURATION);
    assert!(ban["properties"]["reason"]["description"].is_string(), "{ban}");
    let seq = &schemas["roomcast.v1.Position"]["properties"]["seq"];
    assert_eq!(seq["type"], "string", "a number of 64 bits");
}

/// A duration in JSON.
const DURATION: &str = r"^-?[0-9]+(\.[0-9]{1,9})?s$";

/// The schemas so far.
#[derive(Default)]
struct Document {
    schemas: BTreeMap<String, Value>,
}

impl Document {
    fn make() -> Value {
        let pool = DescriptorPool::decode(PUBLIC_DESCRIPTORS).expect("descriptors");
        let mut document = Self::default();
        let (mut paths, mut tags) = (BTreeMap::new(), vec![]);
        for service in pool.services().filter(|it| it.package_name() == "roomcast.v1") {
            let description = comment(&service.parent_file(), service.path());
            tags.push(json!({ "name": service.name(), "description": description }));
            for method in service.methods() {
                if !method.is_client_streaming() && !method.is_server_streaming() {
                    let path = format!("/{}/{}", service.full_name(), method.name());
                    paths.insert(path, json!({ "post": document.call(&method) }));
                }
            }
        }
        document.schemas.insert("Error".to_owned(), error());
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "roomcast",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "The unary calls of roomcast as JSON over HTTP, see docs/http-api.md. Fields that are not known are refused; answers leave out fields that are zero or empty.",
                "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            },
            "servers": [{ "url": "http://127.0.0.1:50051" }],
            "security": [{}, { "bearer": [] }],
            "tags": tags,
            "paths": paths,
            "components": {
                "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer" } },
                "parameters": { "timeout": {
                    "name": "connect-timeout-ms",
                    "in": "header",
                    "description": "How many milliseconds the client waits.",
                    "schema": { "type": "integer", "minimum": 0, "maximum": 9_999_999_999_u64 },
                } },
                "schemas": document.schemas,
            },
        })
    }

    fn call(&mut self, method: &MethodDescriptor) -> Value {
        let mut content = |message: &MessageDescriptor| json!({ "application/json": { "schema": self.message(message) } });
        let service = method.parent_service();
        json!({
            "operationId": format!("{}_{}", service.name(), method.name()),
            "tags": [service.name()],
            "description": comment(&service.parent_file(), method.path()),
            "parameters": [{ "$ref": "#/components/parameters/timeout" }],
            "requestBody": { "required": true, "content": content(&method.input()) },
            "responses": {
                "200": { "description": "OK", "content": content(&method.output()) },
                "default": {
                    "description": "An error.",
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
                },
            },
        })
    }

    /// The schema of a message, in place or by reference.
    fn message(&mut self, message: &MessageDescriptor) -> Value {
        match message.full_name() {
            "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
            "google.protobuf.Duration" => json!({ "type": "string", "pattern": DURATION }),
            name => {
                assert!(!name.starts_with("google."), "{name}: say how it is written in JSON");
                if !self.schemas.contains_key(name) {
                    // It may refer to itself.
                    self.schemas.insert(name.to_owned(), Value::Null);
                    let fields = message.fields();
                    let fields: BTreeMap<_, _> = fields
                        .map(|field| (field.json_name().to_owned(), self.field(&field)))
                        .collect();
                    let mut schema = json!({ "type": "object", "properties": fields });
                    describe(&mut schema, comment(&message.parent_file(), message.path()));
                    self.schemas.insert(name.to_owned(), schema);
                }
                json!({ "$ref": format!("#/components/schemas/{name}") })
            }
        }
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut description = comment(&field.parent_message().parent_file(), field.path());
        let oneof = field.containing_oneof().filter(|it| it.fields().len() > 1);
        if let Some(oneof) = oneof {
            let names: Vec<_> = oneof.fields().map(|it| format!("`{}`", it.json_name())).collect();
            description = format!("{description} At most one of {}.", names.join(", "));
        }
        assert!(!field.is_map(), "{}: say how it is written in JSON", field.full_name());
        let mut schema = self.kind(&field.kind());
        if field.is_list() {
            schema = json!({ "type": "array", "items": schema });
        }
        describe(&mut schema, description.trim().to_owned());
        schema
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Double | Kind::Float => json!({ "type": "number" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32" })
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "pattern": "^-?[0-9]+$" })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "pattern": "^[0-9]+$" }),
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Message(message) => self.message(message),
            Kind::Enum(names) => self.names(names),
        }
    }

    fn names(&mut self, names: &EnumDescriptor) -> Value {
        let values: Vec<_> = names.values().map(|value| value.name().to_owned()).collect();
        let mut schema = json!({ "type": "string", "enum": values });
        let texts = names.values().map(|value| {
            let text = comment(&names.parent_file(), value.path());
            format!("- `{}`: {text}", value.name())
        });
        let texts: Vec<_> = texts.collect();
        let whole = comment(&names.parent_file(), names.path());
        describe(&mut schema, format!("{whole}\n\n{}", texts.join("\n")));
        self.schemas.insert(names.full_name().to_owned(), schema);
        json!({ "$ref": format!("#/components/schemas/{}", names.full_name()) })
    }
}

fn error() -> Value {
    let codes = [
        "canceled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
    ];
    json!({
        "type": "object",
        "description": "Why a call failed.",
        "required": ["code"],
        "properties": {
            "code": { "type": "string", "enum": codes },
            "message": { "type": "string", "description": "For people; it may change." },
            "details": { "type": "array", "items": {
                "type": "object",
                "required": ["type", "value"],
                "properties": {
                    "type": { "type": "string", "description": "The message's name, such as google.rpc.ErrorInfo." },
                    "value": { "type": "string", "contentEncoding": "base64", "description": "The message; without padding." },
                    "debug": { "type": "object", "description": "The same as JSON." },
                },
            } },
        },
    })
}

fn describe(schema: &mut Value, description: String) {
    if !description.is_empty() {
        schema["description"] = description.into();
    }
}

/// The comment above what is defined at this path of a file; its paragraphs in one line each.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let source = file.file_descriptor_proto().source_code_info.as_ref().expect("comments");
    let found = source.location.iter().find(|it| it.path == path);
    let text = found.map_or("", |it| it.leading_comments());
    let paragraphs = text.trim().split("\n\n").map(|paragraph| {
        // What is for the linter is for nobody else.
        let lines = paragraph.lines().map(str::trim).filter(|it| !it.starts_with("buf:lint"));
        lines.collect::<Vec<_>>().join(" ")
    });
    // An empty line of a comment has its blank.
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
