//! What a request expects of its answer: tools and response format → grammars.

use super::Model;
use super::generation::Expectation;
use crate::error::Result;
use crate::grammar::Grammar;
use crate::input::{Prompt, ResponseFormat, TextGenerationRequest};
use crate::prompt::ChatTemplate;
use crate::tools::{CallReader, MAX_CALLS, Tool, ToolChoice};

/// Compiles what the request asks for, so that what cannot be guaranteed is told before anything is computed.
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
    // A raw prompt is not told of tools, so calls cannot be its model's idea.
    let raw = matches!(request.prompt, Prompt::Raw(_)) && request.tool_choice == ToolChoice::Auto;
    if tools.is_empty() || raw {
        let must_complete = schema.is_some();
        let constraint = schema.map(|grammar| model.compile(&grammar)).transpose()?;
        return Ok(Expectation { constraint, must_complete, ..Expectation::default() });
    }
    // Several calls only of models that were trained to make them, and to find an end.
    let several = request.parallel_tool_calls && template.has_tool_slot() && !matches!(request.tool_choice, ToolChoice::Function(_));
    let most = if several { MAX_CALLS } else { 1 };
    let format = template.call_format();
    let names = tools.iter().map(|tool| tool.name.clone()).collect();
    if request.tool_choice != ToolChoice::Auto {
        let constraint = model.compile(&Grammar::Calls { tools, format, most })?.ends_in_time();
        let calls = Some(CallReader::new(names, true));
        return Ok(Expectation { constraint: Some(constraint), calls, begun: None, must_complete: true });
    }
    let begun = Some(model.compile(&Grammar::CallsBegun { tools: tools.clone(), most })?);
    let calls = Some(CallReader::new(names, false));
    let constraint = match schema {
        None => None,
        Some(Grammar::Json(schema)) => Some(model.compile(&Grammar::CallsOrJson { tools, format, most, schema: Some(schema) })?),
        Some(_) => Some(model.compile(&Grammar::CallsOrJson { tools, format, most, schema: None })?),
    };
    let must_complete = constraint.is_some();
    Ok(Expectation { constraint, calls, begun, must_complete })
}
