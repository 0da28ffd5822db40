//! From an address and its credentials to a client of the store.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};

use super::address::{Kind, ObjectsAddress};
use super::observed::Observing;
use super::words;
use crate::Reason;

/// A client; nothing is contacted.
pub(super) fn client(address: &ObjectsAddress, deadline: Duration) -> Result<Arc<dyn ObjectStore>, Reason> {
    let settings = address.credentials().load()?;
    let options = options(address, deadline)?;
    let built = match address.kind() {
        Kind::S3 => s3(address, &settings, options),
        Kind::Azure => azure(address, &settings, options),
        Kind::Google => google(address, &settings, options),
    };
    built.map_err(|error| {
        let (what, place) = (words::first_line(&error.to_string()), address.credentials().place());
        // The crate names what is missing or malformed; a text that repeats a value is not passed on.
        let hushed = settings.iter().any(|(_, value)| value.len() >= 4 && what.contains(value.as_str()));
        let what =
            if hushed || address.kind() == Kind::Google { "its credentials are malformed" } else { &what };
        Reason::new(format!("the {} cannot be used: {what}; settings are {place}", address.describe()))
    })
}

/// Nothing is repeated: a write that is sent again would be refused because of the first one.
fn no_retry() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() }
}

fn options(address: &ObjectsAddress, deadline: Duration) -> Result<ClientOptions, Reason> {
    let plain = address.option("endpoint").is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut options = ClientOptions::new()
        .with_http1_only()
        .with_allow_http(plain)
        .with_timeout(deadline)
        .with_connect_timeout(deadline);
    if let Some(file) = address.option("ca") {
        let failed = |what: String| Reason::new(format!("the certificates in {file} {what}"));
        let pem = std::fs::read(file).map_err(|error| failed(format!("cannot be read: {error}")))?;
        let certificates = Certificate::from_pem_bundle(&pem);
        for certificate in certificates.map_err(|_| failed("are not in PEM form".to_owned()))? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// The crate's key for a setting; `None` for settings that are not its, and those that the URL decides.
fn key<K: std::str::FromStr>(name: &str) -> Option<K> {
    name.to_ascii_lowercase().parse().ok()
}

type Built = object_store::Result<Arc<dyn ObjectStore>>;

fn s3(address: &ObjectsAddress, settings: &[(String, String)], options: ClientOptions) -> Built {
    let mut builder = AmazonS3Builder::new().with_client_options(options);
    for (name, value) in settings {
        match key(name) {
            None | Some(AmazonS3ConfigKey::Client(ClientConfigKey::AllowInvalidCertificates)) => {}
            Some(key) => builder = builder.with_config(key, value),
        }
    }
    builder = builder
        .with_bucket_name(address.place())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(no_retry())
        .with_http_connector(Observing);
    if let Some(endpoint) = address.option("endpoint") {
        builder = builder
            .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint)
            .with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(region) = address.option("region") {
        builder = builder.with_region(region);
    }
    Ok(Arc::new(builder.build()?))
}

fn azure(address: &ObjectsAddress, settings: &[(String, String)], options: ClientOptions) -> Built {
    let mut builder = MicrosoftAzureBuilder::new().with_client_options(options);
    for (name, value) in settings {
        match key(name) {
            None
            | Some(
                AzureConfigKey::UseEmulator
                | AzureConfigKey::Client(ClientConfigKey::AllowInvalidCertificates),
            ) => {}
            Some(key) => builder = builder.with_config(key, value),
        }
    }
    builder =
        builder.with_container_name(address.place()).with_retry(no_retry()).with_http_connector(Observing);
    if let Some(endpoint) = address.option("endpoint") {
        builder = builder.with_endpoint(endpoint.to_owned()).with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(account) = address.option("account") {
        builder = builder.with_account(account);
    }
    Ok(Arc::new(builder.build()?))
}

fn google(address: &ObjectsAddress, settings: &[(String, String)], options: ClientOptions) -> Built {
    let mut builder = GoogleCloudStorageBuilder::new().with_client_options(options);
    for (name, value) in settings {
        match key(name) {
            None | Some(GoogleConfigKey::Client(ClientConfigKey::AllowInvalidCertificates)) => {}
            Some(key) => builder = builder.with_config(key, value),
        }
    }
    builder = builder.with_bucket_name(address.place()).with_retry(no_retry()).with_http_connector(Observing);
    if let Some(endpoint) = address.option("endpoint") {
        builder = builder.with_base_url(endpoint);
    }
    Ok(Arc::new(builder.build()?))
}
