//! Rows about credentials. Each shows first that a good one lets its holder in: what keeps everybody out proves nothing.

use std::{
    thread::{scope, sleep},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use greenroom_contract::Request;
use greenroom_escape::within;
use serde_json::{Value, json};

use crate::{
    Coded,
    issuer::{Issuer, Published, RSA_PUBLIC, Signer, keeps_out, lets_in, now_s, part, run_with, sign_with_secret, trusting},
    server::{Server, check, program},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[
    ("auth::alg-none", alg_none),
    ("auth::alg-confusion", alg_confusion),
    ("auth::wrong-aud-iss", wrong_aud_iss),
    ("auth::expired-nbf", expired_nbf),
    ("auth::exp-missing", exp_missing),
    ("auth::kid-injection", kid_injection),
    ("auth::jwks-confusion", jwks_confusion),
    ("auth::jwks-rotation", jwks_rotation),
    ("auth::sig-malleability", sig_malleability),
    ("auth::replay", replay),
    ("auth::token-in-url-logs", token_in_url_logs),
    ("auth::scope-idor", scope_idor),
];

/// Keys are asked for anew after a second, and no more often.
const QUICK: [&str; 2] = ["identity.oidc.keys_fresh_s=1", "identity.oidc.keys_between_s=1"];
/// A little longer than that.
const A_TURN: Duration = Duration::from_millis(1200);

/// An issuer with one key, and a server that trusts it and has let a good token in.
fn with_key(test: impl FnOnce(&Server, &Issuer, &Signer) -> Result<()>) -> Result<()> {
    let (issuer, signer) = (Issuer::start()?, Signer::elliptic("good")?);
    issuer.publish_keys(&[&signer]);
    trusting(&issuer, &[], |server| {
        lets_in(server, &signer.sign(&issuer.claims())?, "a good token")?;
        test(server, &issuer, &signer)
    })
}

fn alg_none(_: &Suite) -> Result<()> {
    with_key(|server, issuer, signer| {
        for alg in ["none", "None", "nOnE", "NONE", ""] {
            let header = json!({"alg": alg, "kid": signer.kid, "typ": "JWT"});
            let unsigned = format!("{}.{}.", part(&header), part(&issuer.claims()));
            keeps_out(server, &unsigned, &format!("alg {alg:?}, no signature"))?;
            keeps_out(server, unsigned.trim_end_matches('.'), &format!("alg {alg:?}, two parts"))?;
            keeps_out(server, &signer.sign_as(&header, &issuer.claims())?, &format!("alg {alg:?} and yet a signature"))?;
        }
        let unnamed = json!({"kid": signer.kid, "typ": "JWT"});
        keeps_out(server, &signer.sign_as(&unnamed, &issuer.claims())?, "no alg")
    })
}

fn alg_confusion(_: &Suite) -> Result<()> {
    let (issuer, signer) = (Issuer::start()?, Signer::rsa("good")?);
    issuer.publish_keys(&[&signer]);
    trusting(&issuer, &[], |server| {
        let claims = issuer.claims();
        lets_in(server, &signer.sign(&claims)?, "a good token")?;
        let modulus = signer.jwk["n"].as_str().context("no modulus")?.as_bytes();
        for (what, secret) in [
            ("the PEM", RSA_PUBLIC),
            ("the PEM without its last line end", RSA_PUBLIC.trim_ascii_end()),
            ("the modulus", modulus),
            ("nothing", b""),
        ] {
            keeps_out(server, &sign_with_secret(secret, "good", &claims)?, &format!("HS256 with {what} of the public key"))?;
        }
        // A true signature of the same key, under another algorithm's name.
        for alg in ["RS384", "PS256", "ES256", "HS256", "rs256"] {
            keeps_out(server, &signer.sign_as(&json!({"alg": alg, "kid": "good"}), &claims)?, alg)?;
        }
        Ok(())
    })
}

fn wrong_aud_iss(_: &Suite) -> Result<()> {
    with_key(|server, issuer, signer| {
        let sign = |changes: Value| signer.sign(&issuer.claims_with(&changes));
        for aud in [
            json!("https://dynamicsessions.io/"),
            json!("https://acasessions.io"),
            json!(["https://other", "https://dynamicsessions.io"]),
        ] {
            lets_in(server, &sign(json!({"aud": aud}))?, &format!("aud {aud}"))?;
        }
        let other = Issuer::start()?;
        for changes in [
            json!({"aud": "https://storage.azure.com"}),
            json!({"aud": ["https://storage.azure.com", "https://dynamicsessions.io.example"]}),
            json!({"aud": []}),
            json!({"aud": {"0": "https://dynamicsessions.io"}}),
            json!({"aud": null}),
            json!({"aud": "https://management.azure.com"}),
            json!({"iss": other.name}),
            json!({"iss": format!("{}/", issuer.name)}),
            json!({"iss": [issuer.name]}),
            json!({"iss": null}),
        ] {
            keeps_out(server, &sign(changes.clone())?, &changes.to_string())?;
        }
        ensure!(other.asked().is_empty(), "an issuer that nobody trusts was asked: {:?}", other.asked());
        Ok(())
    })
}

fn expired_nbf(_: &Suite) -> Result<()> {
    with_key(|server, issuer, signer| {
        let sign = |changes: Value| signer.sign(&issuer.claims_with(&changes));
        let now = now_s();
        for changes in
            [json!({"exp": now - 30}), json!({"nbf": now + 30}), json!({"iat": now + 30}), json!({"nbf": null, "iat": null})]
        {
            lets_in(server, &sign(changes.clone())?, &format!("{changes}, within the skew of clocks"))?;
        }
        for changes in [
            json!({"exp": now - 61}),
            json!({"exp": now - 86_400}),
            json!({"exp": 0}),
            json!({"nbf": now + 75}),
            json!({"iat": now + 75}),
            json!({"nbf": (now - 10).to_string()}),
            json!({"nbf": "never"}),
        ] {
            keeps_out(server, &sign(changes.clone())?, &changes.to_string())?;
        }
        Ok(())
    })
}

fn exp_missing(_: &Suite) -> Result<()> {
    with_key(|server, issuer, signer| {
        let later = now_s() + 600;
        let mut claims = issuer.claims();
        claims.as_object_mut().context("claims")?.remove("exp");
        keeps_out(server, &signer.sign(&claims)?, "no exp")?;
        // There, and yet not to be read (CVE-2026-25537): that must not count as absent, nor absent as good.
        for exp in
            [json!(null), json!(later.to_string()), json!([later]), json!({"": later}), json!(true), json!("never"), json!(-1)]
        {
            claims["exp"] = exp.clone();
            keeps_out(server, &signer.sign(&claims)?, &format!("exp {exp}"))?;
        }
        claims["exp"] = json!(later);
        lets_in(server, &signer.sign(&claims)?, "the same with an exp")
    })
}

fn kid_injection(_: &Suite) -> Result<()> {
    with_key(|server, issuer, signer| {
        let long = "k".repeat(10_000);
        for kid in
            ["../../dev/null", "../../../../etc/passwd", "' OR 1=1 --", "http://127.0.0.1:1/keys", "good\0", "GOOD", "", &long]
        {
            let header = json!({"alg": "ES256", "kid": kid});
            keeps_out(server, &signer.sign_as(&header, &issuer.claims())?, &kid.chars().take(40).collect::<String>())?;
        }
        for kid in [json!(null), json!(0), json!(["good"]), json!({"good": 1})] {
            keeps_out(server, &signer.sign_as(&json!({"alg": "ES256", "kid": kid}), &issuer.claims())?, &format!("kid {kid}"))?;
        }
        // Keys that a token brings along, or says where they are: theirs, not the issuer's.
        let forger = Signer::elliptic("good")?;
        let canary = Issuer::start()?;
        let url = format!("{}/keys", canary.name);
        for header in [json!({"jwk": forger.jwk}), json!({"jku": url}), json!({"x5u": url})] {
            let mut header = header;
            header["alg"] = "ES256".into();
            header["kid"] = "good".into();
            keeps_out(server, &forger.sign_as(&header, &issuer.claims())?, &header.to_string())?;
        }
        ensure!(canary.asked().is_empty(), "a token said where to fetch keys: {:?}", canary.asked());
        let strange: Vec<_> =
            issuer.asked().into_iter().filter(|path| path != "/keys" && path != "/.well-known/openid-configuration").collect();
        ensure!(strange.is_empty(), "a kid became a path: {strange:?}");
        Ok(())
    })
}

fn jwks_confusion(_: &Suite) -> Result<()> {
    let (issuer, good) = (Issuer::start()?, Signer::elliptic("good")?);
    let (twin, other) = (Signer::elliptic("twin")?, Signer::elliptic("twin")?);
    let mut for_secrets = Signer::elliptic("enc")?;
    for_secrets.jwk["use"] = "enc".into();
    let symmetric = json!({"kty": "oct", "kid": "oct", "alg": "HS256", "use": "sig", "k": URL_SAFE_NO_PAD.encode("published")});
    issuer.publish(Published::Keys(vec![
        good.jwk.clone(),
        twin.jwk.clone(),
        other.jwk.clone(),
        for_secrets.jwk.clone(),
        symmetric,
    ]));
    trusting(&issuer, &QUICK, |server| {
        let claims = issuer.claims();
        let token = good.sign(&claims)?;
        lets_in(server, &token, "a good key beside bad ones")?;
        keeps_out(server, &twin.sign(&claims)?, "the first of two keys of one name")?;
        keeps_out(server, &other.sign(&claims)?, "the second of two keys of one name")?;
        keeps_out(server, &for_secrets.sign(&claims)?, "a key that is not for signatures")?;
        keeps_out(server, &sign_with_secret(b"published", "oct", &claims)?, "a symmetric key that is published")?;
        // An issuer that is down, or not itself: what was fetched before goes on serving.
        let elsewhere = Issuer::start()?;
        elsewhere.publish_keys(&[&twin]);
        let redirect =
            format!("HTTP/1.1 302 Found\r\nLocation: {}/keys\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", elsewhere.name);
        let huge = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{{\"keys\":[{}{}]}}", " ".repeat(1 << 20), twin.jwk);
        for (what, published) in [
            ("500", Published::Raw("HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned())),
            ("a redirect", Published::Raw(redirect)),
            ("a huge set", Published::Raw(huge)),
            ("no JSON", Published::Raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{]".to_owned())),
            ("silence", Published::Silence),
        ] {
            let before = issuer.asked_for_keys();
            issuer.publish(published);
            sleep(A_TURN);
            let asked = std::time::Instant::now();
            lets_in(server, &token, &format!("the known key while the issuer answers with {what}"))?;
            ensure!(asked.elapsed() < Duration::from_secs(6), "{what} held a request up for {:?}", asked.elapsed());
            keeps_out(server, &twin.sign(&claims)?, &format!("a new key while the issuer answers with {what}"))?;
            ensure!(issuer.asked_for_keys() > before, "the issuer was not asked: {what} was not tried");
        }
        ensure!(elsewhere.asked().is_empty(), "the redirect was followed: {:?}", elsewhere.asked());
        Ok(())
    })
}

fn jwks_rotation(_: &Suite) -> Result<()> {
    let (issuer, old, new) = (Issuer::start()?, Signer::elliptic("old")?, Signer::elliptic("new")?);
    issuer.publish_keys(&[&old]);
    trusting(&issuer, &["identity.oidc.keys_fresh_s=4", "identity.oidc.keys_between_s=2"], |server| {
        let (of_old, of_new) = (old.sign(&issuer.claims())?, new.sign(&issuer.claims())?);
        lets_in(server, &of_old, "the old key")?;
        keeps_out(server, &of_new, "a key that is not published")?;
        issuer.publish_keys(&[&old, &new]);
        within(Duration::from_secs(5), || lets_in(server, &of_new, "a new key after a refresh"))?;
        lets_in(server, &of_old, "the old key beside the new one")?;
        issuer.publish_keys(&[&new]);
        within(Duration::from_secs(8), || keeps_out(server, &of_old, "a withdrawn key after its time"))?;
        lets_in(server, &of_new, "the new key")?;
        // Names that somebody makes up cost the issuer nothing.
        let before = issuer.asked_for_keys();
        let begun = std::time::Instant::now();
        scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|worker| {
                    let issuer = &issuer;
                    scope.spawn(move || {
                        (0..25).try_for_each(|turn| {
                            let unknown = Signer::elliptic(&format!("made-up-{worker}-{turn}"))?;
                            keeps_out(server, &unknown.sign(&issuer.claims())?, "a made-up kid")
                        })
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked"))))
        })?;
        let (asked, most) = (issuer.asked_for_keys() - before, usize::try_from(begun.elapsed().as_secs())? / 2 + 1);
        ensure!(
            asked <= most,
            "200 made-up names made the server ask {asked} times in {:?}, at most {most} are due",
            begun.elapsed()
        );
        Ok(())
    })
}

fn sig_malleability(_: &Suite) -> Result<()> {
    with_key(|server, issuer, signer| {
        let token = signer.sign(&issuer.claims())?;
        let (signed, signature) = token.rsplit_once('.').context("no token")?;
        let raw = URL_SAFE_NO_PAD.decode(signature)?;
        let integer = |number: &[u8]| [&[2, 33, 0][..], number].concat();
        let der = [&[0x30, 70][..], &integer(&raw[..32]), &integer(&raw[32..])].concat();
        for (what, bytes) in [
            ("r = s = 0", vec![0; 64]),
            ("s = 0", [&raw[..32], &[0; 32]].concat()),
            ("all ones", vec![255; 64]),
            ("DER", der),
            ("one byte less", raw[..63].to_vec()),
            ("one byte more", [&raw[..], &[0]].concat()),
            ("nothing", Vec::new()),
            ("half of it", raw[..32].to_vec()),
        ] {
            keeps_out(server, &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes)), what)?;
        }
        for (what, text) in [
            ("padding", format!("{token}==")),
            ("a further part", format!("{token}.{signature}")),
            ("a character more", format!("{token}A")),
            (
                "base64 of the other alphabet",
                format!("{signed}.{}", base64::engine::general_purpose::STANDARD_NO_PAD.encode([255; 64])),
            ),
            ("a dot at the end", format!("{token}.")),
        ] {
            keeps_out(server, &text, what)?;
        }
        let whole = sign_with_secret(b"secret", "good", &issuer.claims())?;
        keeps_out(server, &whole[..whole.len() - 20], "a truncated HS256")?;
        lets_in(server, &token, "the token itself")
    })
}

/// Tokens are not for one use, and nothing says that they are. What is promised is that a revoked key ends, in a server that runs.
fn replay(_: &Suite) -> Result<()> {
    Server::during(&["--set", "identity.mode=keys"], |server| {
        let key = server.beside(&["keys", "create", "--name", "first"])?;
        let other = server.beside(&["keys", "create", "--name", "second"])?;
        for sent in [format!("Bearer {key}"), key.clone()] {
            check(run_with(server, &sent)?.status == 200, "a new key lets its holder in at once")?;
        }
        server.beside(&["keys", "revoke", "first"])?;
        keeps_out(server, &key, "a revoked key")?;
        lets_in(server, &other, "another key")?;
        let (id, _) = key.trim_start_matches("gr_").split_once('_').context("no key")?;
        let secret = other.rsplit_once('_').context("no key")?.1;
        keeps_out(server, &format!("gr_{id}_{secret}"), "the secret of one key under the name of another")?;
        let list = server.beside(&["keys", "list", "--json"])?;
        ensure!(!list.contains(secret) && list.contains(id), "{list}");
        let files = std::process::Command::new("grep").args(["-rlaF", secret]).arg(server.data_dir()?).output()?;
        ensure!(files.stdout.is_empty(), "a key's secret is kept in {}", String::from_utf8_lossy(&files.stdout));
        Ok(())
    })
}

fn token_in_url_logs(_: &Suite) -> Result<()> {
    let (issuer, signer) = (Issuer::start()?, Signer::elliptic("good")?);
    issuer.publish_keys(&[&signer]);
    trusting(&issuer, &["log.level=trace"], |server| {
        let token = signer.sign(&issuer.claims())?;
        lets_in(server, &token, "a good token")?;
        for name in ["access_token", "token", "api_key", "api-key", "x-api-key", "authorization", "code", "sig"] {
            let request = Request::new("POST", &format!("/api/v2/execute?{name}={token}"))
                .header("Referer", &format!("http://127.0.0.1/?access_token={token}"))
                .header("Cookie", &format!("access_token={token}"));
            let response = server.send(&request.json(&program("bash", "echo let in")))?;
            check(response.status == 401, format!("?{name}= was answered {}", response.status))?;
        }
        keeps_out(server, &format!("{token}x"), "a spoilt token")?;
        let signature = token.rsplit_once('.').context("no token")?.1;
        // Everything is in the log by now: the refusals of the last request are.
        let log = within(Duration::from_secs(5), || {
            let log = server.log();
            ensure!(log.matches("refused").count() >= 9, "the refusals are not in the log");
            Ok(log)
        })?;
        check(!log.contains(signature), "a credential is in the log")
    })
}

/// A route, the permission that it takes, and a body.
type Route = (&'static str, String, &'static str);

/// Routes of Piston's and our own: of the server, and no pool's.
fn server_routes() -> Vec<Route> {
    let routes = [
        ("POST", "/api/v2/execute", "execute"),
        ("GET", "/api/v2/runtimes", "execute"),
        ("GET", "/api/v2/packages", "execute"),
        ("POST", "/api/v2/packages", "manage"),
        ("DELETE", "/api/v2/packages", "manage"),
        ("POST", "/API/V2/PISTON/EXECUTE/", "execute"),
        ("GET", "/metrics", "manage"),
    ];
    routes.map(|(method, target, permission)| (method, target.to_owned(), permission)).to_vec()
}

/// Every operation of both planes, on a pool that there is not: who may gets as far as hearing that.
fn pool_routes(pool: &str) -> Vec<Route> {
    let group = "/subscriptions/67726565-6e72-4f6f-ad00-000000000009/resourceGroups/g";
    let query = "api-version=2024-02-02-preview&identifier=someone-else";
    let data = [
        ("POST", "code/execute"),
        ("POST", "python/execute"),
        ("POST", "executions"),
        ("GET", "executions/67726565-6e72-4f6f-ad00-00000000000a"),
        ("POST", "files/upload"),
        ("POST", "files"),
        ("GET", "files"),
        ("GET", "files/content/secret.txt"),
        ("GET", "files/secret.txt/content"),
        ("GET", "files/secret.txt"),
        ("DELETE", "files/secret.txt"),
        ("GET", "session"),
        ("DELETE", "session"),
        ("GET", "listSessions"),
        ("GET", "metadata"),
        ("POST", ".management/stopSession"),
        ("POST", ".management/getSession"),
        ("POST", ".management/listSessions"),
    ];
    let data = data.map(|(method, path)| (method, format!("{group}/sessionPools/{pool}/{path}?{query}"), "execute"));
    let control = ["GET", "PATCH", "DELETE"];
    let arm = format!("{group}/providers/Microsoft.App/sessionPools/{pool}?api-version=2025-07-01");
    let control = control.map(|method| (method, arm.clone(), "manage"));
    [&data[..], &control[..]].concat()
}

fn scope_idor(_: &Suite) -> Result<()> {
    let (issuer, signer) = (Issuer::start()?, Signer::elliptic("good")?);
    issuer.publish_keys(&[&signer]);
    trusting(&issuer, &[], |server| {
        let of = |sub: &str| signer.sign(&issuer.claims_with(&json!({ "sub": sub })));
        let send = |(method, target, _): &Route, token: Option<&str>| {
            // What a proxy of somebody's might say of the caller is anybody's word.
            let mut request = Request::new(method, target)
                .header("X-Tenant", "tester")
                .header("X-Forwarded-User", "tester")
                .header("X-MS-CLIENT-PRINCIPAL-ID", "tester")
                .header("X-Forwarded-For", "127.0.0.1");
            if let Some(token) = token {
                request = request.header("Authorization", &format!("Bearer {token}"));
            }
            let body = json!({"language": "no such", "version": "*", "files": [{"content": ""}]});
            server.send(&if *method == "GET" { request } else { request.json(&body) })
        };
        let here = [server_routes(), pool_routes("here")].concat();
        let elsewhere = pool_routes("elsewhere");
        for (route, in_elsewhere) in here.iter().map(|route| (route, false)).chain(elsewhere.iter().map(|route| (route, true))) {
            let (method, target, permission) = route;
            for (sub, may) in [
                ("tester", *permission == "execute"),
                ("manager", *permission == "manage"),
                ("elsewhere", in_elsewhere && *permission == "execute"),
                ("nobody", false),
            ] {
                let response = send(route, Some(&of(sub)?))?;
                let let_in = response.status != 401 && response.status != 403;
                let expected = if may { let_in } else { response.status == 403 };
                check(expected, format!("{sub}: {method} {target} was answered {} {}", response.status, response.text()))?;
            }
            let response = send(route, None)?;
            check(response.status == 401, format!("nobody: {method} {target} was answered {}", response.status))?;
            // A token for the resource manager manages, and runs no code.
            let arm = issuer.claims_with(
                &json!({"sub": if *permission == "manage" { "manager" } else { "tester" }, "aud": "https://management.azure.com/"}),
            );
            let status = send(route, Some(&signer.sign(&arm)?))?.status;
            check(
                (status == 401) == (*permission == "execute"),
                format!("a token for management: {method} {target} was answered {status}"),
            )?;
        }
        for open in ["/healthz", "/readyz"] {
            check(
                server.send(&Request::new("GET", open))?.status == 200,
                format!("{open} is for probes, which have no credentials"),
            )?;
        }
        Ok(())
    })
}
