//! Rules about the tree that a machine can check: who may use whom, what a pure crate may not
//! touch, where the outside world may be touched at all, and how large things may grow. Each
//! failure says why the rule exists. Build scripts, tests and generated code are exempt.

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/seams.rs"]
mod seams;
#[path = "tidy/sizes.rs"]
mod sizes;
#[path = "tidy/source.rs"]
mod source;

use source::Tree;

/// Fails with every finding at once, so that one run shows all there is to mend.
fn expect_none(findings: Vec<String>) {
    assert!(
        findings.is_empty(),
        "{} finding(s):\n{}",
        findings.len(),
        findings.join("\n")
    );
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    expect_none(arrows::forbidden_arrows(&Tree::of_this_workspace()));
}

#[test]
fn pure_crates_list_no_runtime_and_no_randomness() {
    expect_none(arrows::impure_dependencies(&Tree::of_this_workspace()));
}

#[test]
fn one_tls_provider_and_one_http_stack_are_linked() {
    expect_none(arrows::duplicate_stacks(&Tree::of_this_workspace()));
}

#[test]
fn pure_crates_name_no_clock_and_do_no_io() {
    expect_none(seams::impure_sources(&Tree::of_this_workspace()));
}

#[test]
fn only_host_touches_clock_network_disk_threads_and_chance() {
    expect_none(seams::unseamed_sources(&Tree::of_this_workspace()));
}

#[test]
fn every_select_is_biased() {
    expect_none(seams::unbiased_selects(&Tree::of_this_workspace()));
}

#[test]
fn every_file_says_what_it_is_for() {
    expect_none(sizes::files_without_purpose(&Tree::of_this_workspace()));
}

#[test]
fn a_function_fits_on_a_screen() {
    expect_none(sizes::long_functions(&Tree::of_this_workspace()));
}

#[test]
fn a_file_can_be_read_in_one_go() {
    expect_none(sizes::long_files(&Tree::of_this_workspace()));
}

#[test]
fn modules_are_files_beside_their_folder() {
    expect_none(sizes::mod_files(&Tree::of_this_workspace()));
}

mod the_rules_themselves {
    //! A rule that never fires is no rule: each is shown a small tree that breaks it.

    use super::*;

    fn tree(path: &str, text: &str) -> Tree {
        Tree::of_texts(&[(path, text)])
    }

    #[test]
    fn an_arrow_against_the_table_is_found() {
        let manifest = "[dependencies]\nmillrace-metadata.workspace = true\n";
        let found = arrows::forbidden_arrows(&tree("crates/replication/Cargo.toml", manifest));
        assert_eq!(found.len(), 1, "{found:?}");
        let allowed = "[dependencies]\nmillrace-model.workspace = true\n\
                       [dev-dependencies]\nmillrace-metadata.workspace = true\n";
        assert!(
            arrows::forbidden_arrows(&tree("crates/replication/Cargo.toml", allowed)).is_empty()
        );
    }

    #[test]
    fn tokio_in_a_pure_crate_is_found() {
        let manifest = "[dependencies]\ntokio-util = { version = \"1\" }\n";
        assert_eq!(
            arrows::impure_dependencies(&tree("crates/metadata/Cargo.toml", manifest)).len(),
            1
        );
    }

    #[test]
    fn a_clock_is_found_in_code_and_not_in_words() {
        let code = "//! x\nfn f() { let now = std::time::Instant::now(); }\n";
        assert!(!seams::impure_sources(&tree("crates/model/src/a.rs", code)).is_empty());
        assert_eq!(
            seams::unseamed_sources(&tree("crates/storage/src/a.rs", code)).len(),
            1
        );
        let words = "//! never Instant::now\nconst S: &str = \"SystemTime\"; // std::fs\n\
                     #[cfg(test)]\nmod tests { fn f() { std::fs::read(\"x\"); } }\n";
        assert!(seams::impure_sources(&tree("crates/model/src/a.rs", words)).is_empty());
        assert!(seams::unseamed_sources(&tree("crates/storage/src/a.rs", words)).is_empty());
    }

    #[test]
    fn an_unbiased_select_is_found() {
        let bad = "//! x\nasync fn f() { tokio::select! { _ = a() => {} } }\n";
        assert_eq!(
            seams::unbiased_selects(&tree("crates/server/src/a.rs", bad)).len(),
            1
        );
        let good = "//! x\nasync fn f() { tokio::select! {\n biased;\n _ = a() => {} } }\n";
        assert!(seams::unbiased_selects(&tree("crates/server/src/a.rs", good)).is_empty());
    }

    #[test]
    fn a_function_of_seventy_one_lines_is_found() {
        let text = |lines| format!("//! x\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines));
        assert!(sizes::long_functions(&tree("crates/model/src/a.rs", &text(70))).is_empty());
        assert_eq!(
            sizes::long_functions(&tree("crates/model/src/a.rs", &text(71))).len(),
            1
        );
    }

    #[test]
    fn a_file_is_measured_without_its_tests() {
        let text = |lines| {
            format!(
                "//! x\n{}#[cfg(test)]\nmod tests {{\n{}}}\n",
                "const A: u8 = 1;\n".repeat(lines),
                "const B: u8 = 1;\n".repeat(500)
            )
        };
        assert!(sizes::long_files(&tree("crates/model/src/a.rs", &text(599))).is_empty());
        assert_eq!(
            sizes::long_files(&tree("crates/model/src/a.rs", &text(600))).len(),
            1
        );
    }

    #[test]
    fn a_file_without_a_purpose_is_found() {
        assert_eq!(
            sizes::files_without_purpose(&tree("crates/model/src/a.rs", "use x;\n")).len(),
            1
        );
    }
}
