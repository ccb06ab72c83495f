//! STUB
#[derive(Clone, Debug)]
pub struct Condition;
#[derive(Clone, Debug, Default)]
pub struct Facts;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct TemplateError;
impl Condition {
    pub fn holds(&self, _f: &Facts) -> Result<bool, TemplateError> {
        Ok(true)
    }
}
