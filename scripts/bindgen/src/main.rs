//! `bindgen IN.wasm OUT_DIR NAME [--no-typescript]`: writes NAME.js, NAME_bg.wasm and the types for a module that was compiled
//! with wasm-bindgen, in the form that browsers, workerd and Node load (`--target web`).

use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

const USAGE: &str = "usage: bindgen IN.wasm OUT_DIR NAME [--no-typescript]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (input, output, name, typescript) = match arguments.as_slice() {
        [input, output, name] => (input, output, name, true),
        [input, output, name, flag] if flag == "--no-typescript" => (input, output, name, false),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(input).out_name(name).typescript(typescript);
    // The package replaces an instance after a trap, which needs the function that resets the glue's state.
    bindgen.reset_state_function(true).remove_producers_section(true);
    // Callers name the module: with a default in the glue, bundlers would ship every module twice.
    bindgen.omit_default_module_path(true);
    match bindgen.web(true).and_then(|bindgen| bindgen.generate(output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
