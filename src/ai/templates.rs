//! The chat templates of a model file.

use crate::error::Result;
use crate::gguf::Header;
use crate::prompt::{ChatFormat, ChatTemplate, template_for};
use crate::tokenizer::Tokenizer;
use std::rc::Rc;

/// The templates that a file brings.
pub struct Templates {
    own: Option<Rc<ChatTemplate>>,
    /// The variant for requests with tools.
    for_tools: Option<Rc<ChatTemplate>>,
    /// The format of conversations if there is no own one.
    format: ChatFormat,
    /// Why the file's own template cannot be used.
    problem: Option<String>,
}

impl Templates {
    /// Compiles the templates of the metadata. One that cannot be compiled does not make the file unusable: raw prompts need none, and
    /// conversations get the format that the vocabulary shows.
    pub fn from_header(header: &Header, tokenizer: &Tokenizer) -> Self {
        let compile = |key: &str| header.text(key).map(|source| ChatTemplate::new(source, &tokenizer.bos_text, &tokenizer.eos_text));
        let is_sentence_piece = header.text("tokenizer.ggml.model") == Some("llama");
        let format = ChatFormat::of_file(|token| tokenizer.has(token), is_sentence_piece, header.text("general.name").unwrap_or_default());
        let mut templates = Self { own: None, for_tools: None, format, problem: None };
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

    /// The template of a request: the file's variant for tools, the file's own, or the built-in one of its format. Also returns why the file's own
    /// is not used.
    ///
    /// # Errors
    ///
    /// 5004 if a built-in template cannot be compiled.
    pub fn get(&self, with_tools: bool, tokenizer: &Tokenizer) -> Result<(Rc<ChatTemplate>, Option<&str>)> {
        if let Some(template) = self.for_tools.as_ref().filter(|_| with_tools).or(self.own.as_ref()) {
            return Ok((Rc::clone(template), None));
        }
        let template = ChatTemplate::new(template_for(self.format), &tokenizer.bos_text, &tokenizer.eos_text)?;
        Ok((Rc::new(template), self.problem.as_deref()))
    }
}
