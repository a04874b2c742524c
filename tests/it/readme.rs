//! The README's table of APIs is the broker's table of routes.

use tripod::broker::api::ROUTES;

#[test]
fn the_readme_lists_what_is_served() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"))
        .expect("the README is there");
    let listed: Vec<String> = readme
        .lines()
        .skip_while(|line| !line.starts_with("### Kafka APIs"))
        .skip_while(|line| !line.starts_with("| 0 |"))
        .take_while(|line| line.starts_with('|'))
        .map(str::to_owned)
        .collect();
    let served: Vec<String> = ROUTES
        .iter()
        .map(|route| {
            format!(
                "| {} | {} | {}-{} |",
                route.key, route.name, route.min, route.max
            )
        })
        .collect();
    assert_eq!(listed, served);
}
