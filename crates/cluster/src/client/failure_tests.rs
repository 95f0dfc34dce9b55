use super::*;

fn api(code: u16, reason: &str, message: &str) -> kube::Error {
    kube::Error::Api(Status::failure(message, reason).with_code(code).boxed())
}

fn service(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> kube::Error {
    kube::Error::Service(cause.into())
}

/// An error that only adds a sentence to its cause, as connectors do.
#[derive(Debug, Error)]
#[error("{0}")]
struct Layer(&'static str, #[source] io::Error);

#[test]
fn an_answer_of_the_api_server_is_told_by_reason_and_code() {
    type Row = (u16, &'static str, &'static str, fn(&ApiFailure) -> bool);
    let table: &[Row] = &[
        (401, "Unauthorized", "Unauthorized", |f| {
            matches!(f, ApiFailure::Unauthorized { .. })
        }),
        (404, "NotFound", r#"pods "x" not found"#, |f| {
            matches!(f, ApiFailure::NotFound { .. })
        }),
        (409, "AlreadyExists", "x", |f| {
            matches!(f, ApiFailure::AlreadyExists { .. })
        }),
        (409, "Conflict", "x", |f| {
            matches!(f, ApiFailure::Conflict { .. })
        }),
        (410, "Expired", "too old", |f| *f == ApiFailure::Expired),
        (422, "Invalid", "x", |f| {
            matches!(f, ApiFailure::Invalid { .. })
        }),
        (400, "BadRequest", "x", |f| {
            matches!(f, ApiFailure::Invalid { .. })
        }),
        (429, "TooManyRequests", "x", |f| {
            matches!(f, ApiFailure::Server { code: 429, .. })
        }),
        (503, "ServiceUnavailable", "x", |f| {
            matches!(f, ApiFailure::Server { code: 503, .. })
        }),
        (502, "Failed to parse error data", "<html>", |f| {
            matches!(f, ApiFailure::Server { .. })
        }),
        (403, "Failed to parse error data", "<html>", |f| {
            matches!(f, ApiFailure::Denied { .. })
        }),
        (
            400,
            "BadRequest",
            r#"admission webhook "a.b" denied the request: no"#,
            |f| matches!(f, ApiFailure::Denied { .. }),
        ),
        (
            403,
            "Forbidden",
            r#"pods "a" is forbidden: exceeded quota: q"#,
            |f| matches!(f, ApiFailure::Denied { .. }),
        ),
        (
            403,
            "Forbidden",
            r#"pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "n""#,
            |f| matches!(f, ApiFailure::Forbidden(f) if f.verb == "list" && f.user == "bob"),
        ),
        (418, "Teapot", "x", |f| {
            matches!(f, ApiFailure::Other { .. })
        }),
    ];
    for (code, reason, text, is_right) in table {
        let failure = classify(&api(*code, reason, text));
        assert!(is_right(&failure), "{code} {reason} {text}: {}", failure);
    }
}

#[test]
fn a_connection_that_fails_is_told_by_its_innermost_cause() {
    let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let table = [
        (
            service(Layer(
                "tcp connect error",
                io::ErrorKind::ConnectionRefused.into(),
            )),
            UnreachableReason::Refused,
        ),
        (
            service(io::Error::from(io::ErrorKind::TimedOut)),
            UnreachableReason::TimedOut,
        ),
        (
            service(Layer(
                "tcp connect error",
                io::ErrorKind::NetworkUnreachable.into(),
            )),
            UnreachableReason::NoRoute,
        ),
        (
            service(Layer(
                "dns error",
                io::Error::other("failed to lookup address information"),
            )),
            UnreachableReason::NameNotResolved,
        ),
        (
            service(io::Error::other(io::Error::new(
                io::ErrorKind::InvalidData,
                tls,
            ))),
            UnreachableReason::Tls,
        ),
        (
            service(io::Error::from(io::ErrorKind::ConnectionReset)),
            UnreachableReason::Broken,
        ),
    ];
    for (error, wanted) in table {
        let ApiFailure::Unreachable(why) = classify(&error) else {
            panic!("{error:?} isn't told as unreachable");
        };
        assert_eq!(why.reason, wanted, "{error:?}");
    }
}

#[test]
fn a_certificate_that_is_not_trusted_says_so() {
    let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let error = service(io::Error::other(io::Error::new(
        io::ErrorKind::InvalidData,
        tls,
    )));
    let text = classify(&error).to_string();
    assert!(text.contains("UnknownIssuer"), "{text}");
    assert!(text.contains("certificate-authority"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_failed_plugin_is_told_in_its_own_words_without_its_environment() {
    use std::os::unix::process::ExitStatusExt;
    let output = std::process::Output {
        status: std::process::ExitStatus::from_raw(1 << 8),
        stdout: Vec::new(),
        stderr: b"token expired: run `corp login`\n".to_vec(),
    };
    let cmd = r#"SECRET="hunter2" "corp-login""#.to_owned();
    let error = kube::Error::Auth(AuthError::AuthExecRun {
        cmd,
        out: Box::new(output),
    });
    let text = classify(&error).to_string();
    assert!(text.contains("token expired: run `corp login`"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn an_anonymous_user_is_told_that_no_credentials_arrived() {
    let text = classify(&api(
        403,
        "Forbidden",
        r#"pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "n""#,
    ))
    .to_string();
    assert!(text.contains("saw no credentials"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let error = call(
        "list pods",
        std::future::pending::<Result<(), kube::Error>>(),
    )
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "can't list pods: the API server can't be reached: no answer in time (waited 30 s). \
         Check the network, the VPN or the proxy that leads to the cluster"
    );
}
