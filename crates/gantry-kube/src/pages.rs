//! Lists that are read page by page.

use kube::{
    Client,
    api::{ListParams, ObjectList},
    core::{Request, request},
};
use serde::de::DeserializeOwned;

use crate::{
    error::{ApiError, Fault},
    limits, retry,
};

/// Makes the request for one page: for whole objects, or for their metadata only.
pub(crate) type Ask = fn(&Request, &ListParams) -> Result<http::Request<Vec<u8>>, request::Error>;

/// All objects of `selector` below `url`, and the version at which that was so. `what` names them
/// in errors.
pub(crate) async fn all<T: Clone + DeserializeOwned>(
    client: &Client,
    (what, url): (&str, &str),
    ask: Ask,
    selector: &str,
) -> Result<(Vec<T>, String), ApiError> {
    let request = Request::new(url);
    let mut params = ListParams::default().labels(selector).limit(limits::LIST_PAGE);
    let mut found = Vec::new();
    let mut length = 0;
    for _ in 0..limits::LIST_PAGES {
        let request = ask(&request, &params).map_err(kube::Error::BuildRequest)?;
        let (page, page_length) = retry::once(page::<T>(client, request)).await?;
        length += page_length;
        if length > limits::LIST {
            let message = format!("the {what} of the selector {selector:?} are more than {} MiB", limits::LIST >> 20);
            return Err(ApiError::without_answer(Fault::Garbled, message));
        }
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok((found, page.metadata.resource_version.unwrap_or_default())),
        }
    }
    let message = format!("the selector {selector:?} shows more than {} {what}", found.len());
    Err(ApiError::without_answer(Fault::Garbled, message))
}

/// One page of a list, and its length as text.
async fn page<T: Clone + DeserializeOwned>(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> kube::Result<(ObjectList<T>, usize)> {
    let text = client.request_text(request).await?;
    Ok((serde_json::from_str(&text).map_err(kube::Error::SerdeError)?, text.len()))
}
