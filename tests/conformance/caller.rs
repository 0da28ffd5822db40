//! Who calls: a channel with the token that goes along.

use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// What a caller says about who it is; nothing while it has not logged in.
#[derive(Clone, Default, Debug)]
pub struct Token(Option<AsciiMetadataValue>);

impl Token {
    pub fn of(text: &str) -> Token {
        Token(Some(text.parse().expect("a token is plain text")))
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// A channel in a user's name.
pub type Caller = InterceptedService<Channel, Token>;

pub fn caller(channel: &Channel, token: &Token) -> Caller {
    InterceptedService::new(channel.clone(), token.clone())
}
