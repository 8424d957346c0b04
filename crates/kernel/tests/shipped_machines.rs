//! The shipped machines load without a diagnostic.

use std::path::Path;

#[test]
fn shipped_machines_load_without_a_diagnostic() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../machines");
    let mut seen = 0;
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".yaml") || name.ends_with(".stories.yaml") {
            continue;
        }
        seen += 1;
        let source = std::fs::read_to_string(&path).unwrap();
        let (machine, diagnostics) = kernel::definition::load(&source);
        let rendered: Vec<String> = diagnostics.iter().map(|d| d.render(&name, &source)).collect();
        assert!(diagnostics.is_empty(), "{}", rendered.join("\n\n"));
        assert!(machine.is_some(), "{name}");
    }
    assert!(seen > 0, "no machine was found");
}

/// Of machines the document shows parts, of flows whole ones.
#[test]
fn flows_in_the_documents_load_without_a_diagnostic() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/definitions.md");
    let text = std::fs::read_to_string(document).unwrap();
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let flows: Vec<&str> = blocks.filter(|block| block.starts_with("flow:")).collect();
    assert!(!flows.is_empty());
    for flow in flows {
        let (machine, diagnostics) = kernel::definition::load(flow);
        assert!(machine.is_some() && diagnostics.is_empty(), "{diagnostics:?}\n{flow}");
    }
}
