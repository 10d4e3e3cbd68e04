//! The chat page and the description of the API.

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

/// The description of the API, in OpenAPI 3.1.
const OPENAPI: &str = include_str!("openapi.json");

/// A page to try a chat in. It loads nothing from elsewhere.
pub(super) async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::{Endpoint, Request};
    use serde_json::{Value, json};

    #[test]
    fn the_description_names_every_route() {
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = described["paths"].as_object().unwrap();
        let routes = include_str!("router.rs").split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
        for route in routes {
            assert!(paths.contains_key(&route.replace("{*id}", "{id}")), "{route} is not described");
        }
    }

    #[test]
    fn every_described_field_is_known() {
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let refused = |endpoint, mut body: Value, field: &str| {
            body[field] = json!([["surely wrong"]]);
            let parsed = Request::parse(endpoint, &body);
            parsed.err().is_some_and(|error| error.message.ends_with("is not a known field"))
        };
        let chat = json!({"messages": [{"role": "user", "content": "Hello!"}]});
        for (endpoint, schema, body) in [
            (Endpoint::Chat, "ChatRequest", chat),
            (Endpoint::Completions, "CompletionRequest", json!({"prompt": "Once"})),
        ] {
            let fields = described["components"]["schemas"][schema]["properties"].as_object().unwrap();
            assert!(fields.len() > 40);
            for field in fields.keys() {
                assert!(
                    !refused(endpoint, body.clone(), field),
                    "{schema}.{field} is described, and refused as unknown"
                );
            }
            assert!(refused(endpoint, body, "surely_unknown"));
        }
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        let page = include_str!("page.html");
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("//cdn"));
    }
}
