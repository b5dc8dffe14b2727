//! What the programs say of themselves, word by word. `TRYCMD=overwrite cargo test --test docs help` writes it anew.

#[test]
fn help_is_as_written() {
    trycmd::TestCases::new()
        .env("COLUMNS", "100")
        .register_bin("kvclient", std::path::Path::new(env!("CARGO_BIN_EXE_kvclient")))
        .case("tests/docs/help/*.trycmd");
}
