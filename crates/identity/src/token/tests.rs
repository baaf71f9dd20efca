use std::time::Duration;

use serde_json::{Value, json};

use super::*;

const NOW: Duration = Duration::from_secs(1_000_000);

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn token(header: Value) -> String {
    format!("{}.{}.c2ln", encode(&header), encode(&json!({"iss": "i"})))
}

fn claims(value: Value) -> Claims {
    Claims(value.as_object().unwrap().clone())
}

#[test]
fn a_token_is_read_into_its_parts() {
    let text = token(json!({"alg": "RS256", "kid": "k", "typ": "JWT", "x5t": "k"}));
    let read = Unverified::read(&text).unwrap();
    assert_eq!((read.algorithm, read.kid.as_str(), read.issuer()), (Algorithm::RS256, "k", Ok("i")));
    assert_eq!(format!("{}.{}", read.signed, read.signature), text);
}

#[test]
fn no_token_chooses_to_be_unsigned_or_signed_with_what_everybody_knows() {
    let bad = ["none", "None", "nOnE", "NONE", "", "HS256", "HS384", "HS512", "rs256", "RS256 ", "EdDSA", "ES512", "RS1"];
    for alg in bad.map(Value::from).into_iter().chain([json!(null), json!(["RS256"]), json!({"alg": "RS256"}), json!(0)]) {
        let text = token(json!({"alg": alg, "kid": "k"}));
        assert!(Unverified::read(&text).is_err_and(|refusal| refusal == TokenRefusal::Algorithm), "{alg}");
    }
    assert_eq!(Unverified::read(&token(json!({"kid": "k"}))).unwrap_err(), TokenRefusal::Malformed);
}

#[test]
fn a_token_names_its_key_in_a_sensible_way() {
    for kid in [json!(null), json!(""), json!(1), json!(["k"]), json!("k".repeat(10_000))] {
        let refusal = Unverified::read(&token(json!({"alg": "RS256", "kid": kid}))).unwrap_err();
        assert_eq!(refusal, TokenRefusal::KidMissing, "{kid}");
    }
    assert_eq!(Unverified::read(&token(json!({"alg": "RS256"}))).unwrap_err(), TokenRefusal::KidMissing);
    // Strange, and only looked up in a map: see jwks.rs.
    for kid in ["../../dev/null", "' OR 1=1", "k\0", "http://127.0.0.1/"] {
        assert_eq!(Unverified::read(&token(json!({"alg": "RS256", "kid": kid}))).unwrap().kid, kid);
    }
}

#[test]
fn what_must_be_understood_and_is_not_is_refused() {
    let refusal = Unverified::read(&token(json!({"alg": "RS256", "kid": "k", "crit": ["b64"], "b64": false}))).unwrap_err();
    assert_eq!(refusal, TokenRefusal::Critical);
}

#[test]
fn there_is_one_way_to_write_a_token() {
    let good = token(json!({"alg": "RS256", "kid": "k"}));
    let (header, rest) = good.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    assert!(Unverified::read(&good).is_ok());
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        header.to_owned(),
        format!("{header}.{claims}"),
        format!("{good}.{signature}"),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}==.{signature}"),
        format!(" {good}"),
        format!("{header}\n.{claims}.{signature}"),
        format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode("[]")),
        format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("\"text\"")),
        format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("[".repeat(100_000))),
    ] {
        assert!(matches!(Unverified::read(&bad), Err(TokenRefusal::Malformed)), "{bad:?}");
    }
}

#[test]
fn a_token_counts_from_nbf_to_exp_and_clocks_may_be_a_minute_apart() {
    let now = NOW.as_secs();
    let check = |value| claims(value).check_times(NOW);
    assert_eq!(check(json!({"exp": now + 1, "nbf": now, "iat": now})), Ok(()));
    assert_eq!(check(json!({"exp": now - 59})), Ok(()));
    assert_eq!(check(json!({"exp": now - 60})), Err(TokenRefusal::Expired));
    assert_eq!(check(json!({"exp": now - 61})), Err(TokenRefusal::Expired));
    assert_eq!(check(json!({"exp": now + 1, "nbf": now + 60})), Ok(()));
    assert_eq!(check(json!({"exp": now + 1, "nbf": now + 61})), Err(TokenRefusal::NotYet));
    assert_eq!(check(json!({"exp": now + 1, "iat": now + 60})), Ok(()));
    assert_eq!(check(json!({"exp": now + 1, "iat": now + 61})), Err(TokenRefusal::IssuedInFuture));
    assert_eq!(check(json!({"exp": now as f64 + 0.5})), Ok(()), "fractions are allowed");
}

#[test]
fn a_token_without_an_end_is_refused_and_so_is_one_whose_end_cannot_be_read() {
    assert_eq!(claims(json!({})).check_times(NOW), Err(TokenRefusal::ClaimMissing("exp")));
    let far = 4_000_000_000_u64;
    for exp in [json!(far.to_string()), json!(null), json!([far]), json!({"t": far}), json!(true), json!(-1), json!("never")] {
        let refusal = claims(json!({"exp": exp})).check_times(NOW);
        assert_eq!(refusal, Err(TokenRefusal::ClaimType("exp")), "{exp}");
    }
    // Past what a number can hold, serde_json does not read it at all.
    assert!(serde_json::from_str::<Value>("1e999").is_err());
}

#[test]
fn times_that_are_there_but_cannot_be_read_are_not_taken_for_absent() {
    for name in ["nbf", "iat"] {
        for bad in [json!("0"), json!(null), json!([]), json!(-1)] {
            let refusal = claims(json!({"exp": NOW.as_secs() + 1, name: bad})).check_times(NOW).unwrap_err();
            assert!(matches!(refusal, TokenRefusal::ClaimType(of) if of == name), "{name} {bad}");
        }
    }
}

#[test]
fn the_audience_is_one_of_ours_with_or_without_a_slash() {
    let ours: Vec<String> = crate::SESSION_AUDIENCES.map(str::to_owned).to_vec();
    let check = |aud: Value| claims(json!({"aud": aud})).check_audience(&ours);
    for good in crate::SESSION_AUDIENCES {
        assert_eq!(check(json!(good)), Ok(()));
        assert_eq!(check(json!(format!("{good}/"))), Ok(()));
        assert_eq!(check(json!(["https://other", good])), Ok(()));
    }
    for bad in [
        "https://management.azure.com", "https://dynamicsessions.io.example", "https://dynamicsessions.io//",
        "http://dynamicsessions.io", "HTTPS://DYNAMICSESSIONS.IO", "*", "",
    ] {
        assert_eq!(check(json!(bad)), Err(TokenRefusal::Audience), "{bad}");
    }
    assert_eq!(check(json!(["https://other"])), Err(TokenRefusal::Audience));
    assert_eq!(check(json!([])), Err(TokenRefusal::ClaimMissing("aud")));
    assert_eq!(claims(json!({})).check_audience(&ours), Err(TokenRefusal::ClaimMissing("aud")));
    for bad in [json!(null), json!(1), json!([good_one(), 1]), json!({"0": good_one()})] {
        assert_eq!(check(bad.clone()), Err(TokenRefusal::ClaimType("aud")), "{bad}");
    }
}

fn good_one() -> &'static str {
    crate::SESSION_AUDIENCES[0]
}

#[test]
fn the_tenant_is_ours() {
    let check = |value| claims(value).check_tenant("0a-b");
    assert_eq!(check(json!({"tid": "0A-B"})), Ok(()));
    assert_eq!(check(json!({"tid": "0a-c"})), Err(TokenRefusal::Tenant));
    assert_eq!(check(json!({})), Err(TokenRefusal::ClaimMissing("tid")));
    assert_eq!(check(json!({"tid": ["0a-b"]})), Err(TokenRefusal::ClaimType("tid")));
}
