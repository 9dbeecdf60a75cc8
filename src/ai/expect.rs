//! What a request requires of its answer: tools and response format → grammars.

use super::Model;
use super::generation::Expectation;
use crate::error::Result;
use crate::grammar::Grammar;
use crate::input::{Prompt, ResponseFormat, TextGenerationRequest};
use crate::prompt::ChatTemplate;
use crate::tools::{CallReader, MAX_CALLS, Tool, ToolChoice};

/// Compiles the grammars of a request. This happens before anything is computed, so that a schema that cannot be guaranteed
/// fails at once.
///
/// # Errors
///
/// 5006 if a schema or a tool's parameters cannot be guaranteed, 5004 if the model's vocabulary cannot be used with grammars.
pub fn expectation(request: &TextGenerationRequest, template: &ChatTemplate, model: &Model) -> Result<Expectation> {
    let schema = match &request.response_format {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(Grammar::JsonObject),
        ResponseFormat::JsonSchema(schema) => Some(Grammar::Json(schema.clone())),
    };
    let tools: Vec<Tool> = match &request.tool_choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Function(name) => request.tools.iter().filter(|tool| tool.name == *name).cloned().collect(),
        ToolChoice::Auto | ToolChoice::Required => request.tools.clone(),
    };
    // A raw prompt does not mention the tools, so the model has no reason to call them.
    let raw = matches!(request.prompt, Prompt::Raw(_)) && request.tool_choice == ToolChoice::Auto;
    if tools.is_empty() || raw {
        let must_complete = schema.is_some();
        let constraint = schema.map(|grammar| model.compile(&grammar)).transpose()?;
        return Ok(Expectation { constraint, must_complete, ..Expectation::default() });
    }
    // Several calls only if the template supports tools: such models were trained to make calls, and to stop.
    let several = request.parallel_tool_calls && template.shown().tools && !matches!(request.tool_choice, ToolChoice::Function(_));
    let max_calls = if several { MAX_CALLS } else { 1 };
    let format = template.call_format();
    let names = tools.iter().map(|tool| tool.name.clone()).collect();
    if request.tool_choice != ToolChoice::Auto {
        let constraint = model.compile(&Grammar::Calls { tools, format, max_calls })?;
        let calls = Some(CallReader::new(names, true));
        return Ok(Expectation { constraint: Some(constraint), calls, must_complete: true, ..Expectation::default() });
    }
    let checked_tools = tools.clone();
    let call_constraint = Some(model.compile(&Grammar::CallsBegun { tools: tools.clone(), max_calls })?);
    let calls = Some(CallReader::new(names, false));
    let constraint = match schema {
        None => None,
        Some(Grammar::Json(schema)) => Some(model.compile(&Grammar::CallsOrJson { tools, format, max_calls, schema: Some(schema) })?),
        Some(_) => Some(model.compile(&Grammar::CallsOrJson { tools, format, max_calls, schema: None })?),
    };
    let must_complete = constraint.is_some();
    Ok(Expectation { constraint, calls, call_constraint, checked_tools, must_complete, thinks_first: false })
}
