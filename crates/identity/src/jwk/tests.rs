use jsonwebtoken::{EncodingKey, Header, jwk::Jwk as Published};
use serde_json::json;

use super::*;

const RSA: &[u8] = include_bytes!("rsa-of-tests.pem");

/// A private key, and its public half as it is published.
fn pair(algorithm: Algorithm) -> (EncodingKey, Value) {
    let key = match algorithm {
        Algorithm::ES256 => {
            let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap()
        }
        _ => EncodingKey::from_rsa_pem(RSA).unwrap(),
    };
    let mut jwk = serde_json::to_value(Published::from_encoding_key(&key, algorithm).unwrap()).unwrap();
    jwk["kid"] = "k".into();
    jwk["use"] = "sig".into();
    (key, jwk)
}

fn signed(key: &EncodingKey, algorithm: Algorithm) -> String {
    let header = Header { kid: Some("k".to_owned()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, &json!({"iss": "i"}), key).unwrap()
}

fn keys(jwks: &[Value]) -> Result<Keys, BadKeys> {
    read(json!({"keys": jwks}).to_string().as_bytes())
}

fn verify(jwk: &Value, token: &str) -> Result<(), TokenRefusal> {
    keys(std::slice::from_ref(jwk)).unwrap()["k"].verify(&Unverified::read(token)?)
}

#[test]
fn a_signature_of_each_type_of_key_is_verified() {
    for algorithm in [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256] {
        let (key, jwk) = pair(algorithm);
        assert_eq!(verify(&jwk, &signed(&key, algorithm)), Ok(()), "{algorithm:?}");
    }
}

#[test]
fn a_signature_of_another_key_or_of_another_text_is_refused() {
    let (key, jwk) = pair(Algorithm::ES256);
    let (other, _) = pair(Algorithm::ES256);
    assert_eq!(verify(&jwk, &signed(&other, Algorithm::ES256)), Err(TokenRefusal::Signature));
    let good = signed(&key, Algorithm::ES256);
    let claims = URL_SAFE_NO_PAD.encode(json!({"iss": "j"}).to_string());
    let parts: Vec<&str> = good.split('.').collect();
    assert_eq!(verify(&jwk, &format!("{}.{claims}.{}", parts[0], parts[2])), Err(TokenRefusal::Signature));
}

#[test]
fn the_key_decides_on_the_algorithm_and_not_the_token() {
    // One key in two roles, were it not pinned: RS256 unless it says otherwise.
    let (key, mut jwk) = pair(Algorithm::RS256);
    for other in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        assert_eq!(verify(&jwk, &signed(&key, other)), Err(TokenRefusal::AlgorithmOfKey), "{other:?}");
    }
    jwk.as_object_mut().unwrap().remove("alg");
    assert_eq!(verify(&jwk, &signed(&key, Algorithm::RS256)), Ok(()));
    assert_eq!(verify(&jwk, &signed(&key, Algorithm::RS512)), Err(TokenRefusal::AlgorithmOfKey));
    let (elliptic, _) = pair(Algorithm::ES256);
    assert_eq!(verify(&jwk, &signed(&elliptic, Algorithm::ES256)), Err(TokenRefusal::AlgorithmOfKey));
}

#[test]
fn a_public_key_is_no_secret_of_a_symmetric_signature() {
    let (_, jwk) = pair(Algorithm::RS256);
    let modulus = jwk["n"].as_str().unwrap();
    for secret in [modulus.as_bytes().to_vec(), jwk.to_string().into_bytes(), RSA.to_vec()] {
        let forged = signed(&EncodingKey::from_secret(&secret), Algorithm::HS256);
        assert_eq!(verify(&jwk, &forged), Err(TokenRefusal::Algorithm));
    }
}

#[test]
fn an_elliptic_signature_is_two_numbers_of_32_bytes_and_nothing_else() {
    let (key, jwk) = pair(Algorithm::ES256);
    let good = signed(&key, Algorithm::ES256);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert_eq!(verify(&jwk, &good), Ok(()));
    // DER: SEQUENCE of two INTEGERs, of the same two numbers.
    let integer = |number: &[u8]| [&[2, 33, 0][..], number].concat();
    let body = [integer(&raw[..32]), integer(&raw[32..])].concat();
    let der = [&[0x30, 70][..], &body].concat();
    for bad in [
        vec![0; 64],
        vec![0; 0],
        der,
        raw[..63].to_vec(),
        [&raw[..], &[0]].concat(),
        vec![255; 64],
        [&raw[..32], &[0; 32]].concat(),
    ] {
        assert_eq!(verify(&jwk, &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bad))), Err(TokenRefusal::Signature), "{bad:?}");
    }
    for bad in [format!("{signature}="), format!("{signature}=="), format!("{signature}A"), format!(" {signature}"), String::new()]
    {
        assert_eq!(verify(&jwk, &format!("{signed}.{bad}")), Err(TokenRefusal::Signature), "{bad:?}");
    }
    // The last character has bits that mean nothing: they must be 0.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet.find(signature.chars().last().unwrap()).unwrap();
    let twin = format!("{}{}", &signature[..signature.len() - 1], &alphabet[last + 1..last + 2]);
    assert_eq!(verify(&jwk, &format!("{signed}.{twin}")), Err(TokenRefusal::Signature));
}

#[test]
fn only_keys_that_are_for_signatures_count() {
    let (_, good) = pair(Algorithm::ES256);
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    assert!(keys(&[with("key_ops", json!(["verify"]))]).is_ok());
    let (_, rsa) = pair(Algorithm::RS256);
    let short = URL_SAFE_NO_PAD.encode(vec![0xC1; 128]);
    let mut weak = rsa.clone();
    weak["n"] = short.into();
    let mut foreign = rsa.clone();
    foreign["alg"] = "ES256".into();
    for bad in [
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("HS256")),
        with("alg", json!("none")),
        with("alg", json!("RS256")),
        with("kid", json!("")),
        with("kid", json!(null)),
        with("crv", json!("secp256k1")),
        with("x", json!("!")),
        json!({"kty": "oct", "kid": "k", "alg": "HS256", "k": "c2VjcmV0"}),
        json!({"kty": "oct", "kid": "k", "alg": "RS256", "k": "c2VjcmV0"}),
        weak,
        foreign,
        json!("k"),
    ] {
        assert_eq!(keys(std::slice::from_ref(&bad)).unwrap_err(), BadKeys::None, "{bad}");
        // What is wrong with one says nothing about the others.
        let mut other = good.clone();
        other["kid"] = "good".into();
        assert_eq!(Vec::from_iter(keys(&[bad, other]).unwrap().into_keys()), ["good"]);
    }
}

#[test]
fn of_two_keys_of_one_name_neither_counts_but_one_key_twice_is_one() {
    let ((_, a), (_, b)) = (pair(Algorithm::ES256), pair(Algorithm::ES256));
    assert_eq!(keys(&[a.clone(), b]).unwrap_err(), BadKeys::None);
    assert_eq!(keys(&[a.clone(), a]).unwrap().len(), 1);
}

#[test]
fn what_is_no_set_or_far_too_large_is_refused() {
    for bad in ["", "[]", "{}", "{\"keys\":{}}", "null"] {
        assert_eq!(read(bad.as_bytes()).unwrap_err(), BadKeys::Malformed, "{bad:?}");
    }
    let (_, good) = pair(Algorithm::ES256);
    assert_eq!(keys(&vec![good; MAX_KEYS + 1]).unwrap_err(), BadKeys::TooMany { keys: MAX_KEYS + 1 });
}
