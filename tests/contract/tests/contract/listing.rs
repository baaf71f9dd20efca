use greenroom_contract::{Request, Response, Server};
use serde_json::{Value, json};

crate::rows!(
    runtimes_are_listed,
    packages_are_listed,
    a_package_that_does_not_exist_is_named,
    an_installed_package_is_not_installed_again,
    a_package_that_is_not_installed_is_not_removed,
);

fn packages(server: &Server, method: &str, body: &Value) -> Response {
    server.send(&Request::new(method, "/api/v2/packages").json(body)).unwrap_or_else(|error| panic!("{error:#} for {body}"))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|keys| keys.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn runtimes_are_listed(server: &Server) {
    let response = server.send(&Request::new("GET", "/api/v2/runtimes")).expect("an answer");
    let runtimes = response.json();
    let runtimes = runtimes.as_array().expect("an array");
    assert!(!runtimes.is_empty());
    for runtime in runtimes {
        let keys = keys(runtime);
        assert!(keys == ["language", "version", "aliases"] || keys == ["language", "version", "aliases", "runtime"], "{runtime}");
        assert!(runtime["language"].as_str().is_some_and(|name| !name.is_empty()), "{runtime}");
        let version = runtime["version"].as_str().unwrap_or_default();
        assert!(version.split('.').count() >= 3, "a version of three parts: {runtime}");
        assert!(runtime["aliases"].as_array().is_some_and(|names| names.iter().all(Value::is_string)), "{runtime}");
    }
}

fn packages_are_listed(server: &Server) {
    let response = server.send(&Request::new("GET", "/api/v2/packages")).expect("an answer");
    assert_eq!(response.status, 200);
    let packages = response.json();
    let packages = packages.as_array().expect("an array");
    assert!(packages.iter().any(|package| package["installed"] == true));
    for package in packages {
        assert_eq!(keys(package), ["language", "language_version", "installed"]);
        assert!(package["language"].is_string() && package["language_version"].is_string() && package["installed"].is_boolean());
    }
}

fn a_package_that_does_not_exist_is_named(server: &Server) {
    for method in ["POST", "DELETE"] {
        for (body, name) in [
            (json!({"language": "nope", "version": "1.x"}), "nope-1.x"),
            (json!({}), "undefined-undefined"),
            (json!({"language": null, "version": 3}), "null-3"),
        ] {
            let response = packages(server, method, &body);
            let message = format!("Requested package {name} does not exist");
            assert_eq!((response.status, response.json()), (404, json!({"message": message})), "{method} {body}");
        }
    }
}

/// The first package that is, or is not, installed.
fn package(server: &Server, is_installed: bool) -> Option<(String, String)> {
    let list = server.send(&Request::new("GET", "/api/v2/packages")).ok()?.json();
    let found = list.as_array()?.iter().find(|package| package["installed"] == is_installed)?;
    Some((found["language"].as_str()?.to_owned(), found["language_version"].as_str()?.to_owned()))
}

fn an_installed_package_is_not_installed_again(server: &Server) {
    let (language, version) = package(server, true).expect("an installed package");
    let response = packages(server, "POST", &json!({"language": language, "version": version}));
    assert_eq!((response.status, response.json()), (500, json!({"message": "Already installed"})), "{language} {version}");
}

fn a_package_that_is_not_installed_is_not_removed(server: &Server) {
    let Some((language, version)) = package(server, false) else { return };
    let response = packages(server, "DELETE", &json!({"language": language, "version": version}));
    let message = format!("{language}-{version} is not installed");
    assert_eq!((response.status, response.json()), (500, json!({"message": message})));
}
