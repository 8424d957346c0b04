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
