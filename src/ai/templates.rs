//! The chat templates of a model file.

use crate::catalog::{self, ChatFormat};
use crate::error::Result;
use crate::gguf::Header;
use crate::prompt::{ChatTemplate, template_for};
use crate::tokenizer::Tokenizer;
use std::rc::Rc;

/// The templates that a file brings.
#[derive(Default)]
pub struct Templates {
    own: Option<Rc<ChatTemplate>>,
    /// The variant for requests with tools.
    for_tools: Option<Rc<ChatTemplate>>,
    /// Why the file's own template cannot be used.
    problem: Option<String>,
}

impl Templates {
    /// Compiles the templates of the metadata. One that cannot be compiled does not make the file unusable: raw prompts need none, and
    /// conversations get the format that the vocabulary shows.
    pub fn from_header(header: &Header, tokenizer: &Tokenizer) -> Self {
        let compile = |key: &str| header.text(key).map(|source| ChatTemplate::new(source, &tokenizer.bos_text, &tokenizer.eos_text));
        let mut templates = Self::default();
        match compile("tokenizer.chat_template") {
            Some(Ok(template)) => templates.own = Some(Rc::new(template)),
            Some(Err(error)) => templates.problem = Some(error.text),
            None => {}
        }
        if let Some(Ok(template)) = compile("tokenizer.chat_template.tool_use") {
            templates.for_tools = Some(Rc::new(template));
        }
        templates
    }

    /// The template of a request: the file's variant for tools, the file's own, or the built-in one for the control tokens of its vocabulary. If
    /// these show no format, the one that the catalogue names for `model_id`, otherwise ChatML. Also returns why the file's own is not used.
    ///
    /// # Errors
    ///
    /// 5004 if a built-in template cannot be compiled.
    pub fn get(&self, model_id: &str, with_tools: bool, tokenizer: &Tokenizer) -> Result<(Rc<ChatTemplate>, Option<&str>)> {
        if let Some(template) = self.for_tools.as_ref().filter(|_| with_tools).or(self.own.as_ref()) {
            return Ok((Rc::clone(template), None));
        }
        let shown = [("<|im_start|>", ChatFormat::ChatMl), ("<|start_header_id|>", ChatFormat::Llama3), ("[INST]", ChatFormat::Mistral)];
        let shown = shown.into_iter().find(|(token, _)| tokenizer.has(token)).map(|(_, format)| format);
        let format = shown.or_else(|| catalog::find(model_id).map(|card| card.chat_format)).unwrap_or(ChatFormat::ChatMl);
        let template = ChatTemplate::new(template_for(format), &tokenizer.bos_text, &tokenizer.eos_text)?;
        Ok((Rc::new(template), self.problem.as_deref()))
    }
}
