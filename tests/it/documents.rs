//! The documents agree with each other and with the files of the repository.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use crate::deploy::path;

/// Where documents are. Of the repository's root only the files count, not what is below.
const FOLDERS: [&str; 4] = ["", "docs", "deploy", "k8s"];

/// The documents by their paths in the repository.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut documents = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(path(folder)).expect("the folder is there") {
            let name = entry.expect("an entry").file_name();
            let document = Path::new(folder).join(name);
            if document.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(path("").join(&document)).expect("it is text");
                documents.insert(document, text);
            }
        }
    }
    documents
}

/// The lines that are not code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The targets of the links in a document.
fn links(text: &str) -> Vec<&str> {
    let text = text.split("](").skip(1);
    text.map(|rest| rest.split(')').next().expect("a split has a first part")).collect()
}

/// The anchors that GitHub makes of headings: lower case, without punctuation, hyphens for spaces.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in prose(text).filter(|line| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        let anchor: String = kept.map(|it| if it == ' ' { '-' } else { it }).collect();
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let mut names = std::iter::once(anchor.clone()).chain(numbered);
        let free = names.find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

/// A path without its `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(plain.pop(), "{} is outside", path.display()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// The links of a document that lead nowhere.
fn broken(document: &Path, documents: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let text = prose(&documents[document]).collect::<Vec<_>>().join("\n");
    let relative = links(&text).into_iter().filter(|link| !link.contains("://"));
    let leads = |link: &str| {
        let (file, anchor) = link.split_once('#').map_or((link, None), |(a, b)| (a, Some(b)));
        let target = match file {
            "" => document.to_owned(),
            file => plain(&document.parent().expect("a folder").join(file)),
        };
        let there = documents.contains_key(&target) || path("").join(&target).exists();
        there
            && anchor.is_none_or(|anchor| {
                documents.get(&target).is_some_and(|text| anchors(text).contains(anchor))
            })
    };
    relative
        .filter(|link| !leads(link))
        .map(|link| format!("{}: {link}", document.display()))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 10, "{:?}", documents.keys());
    let broken: Vec<_> = documents.keys().flat_map(|it| broken(it, &documents)).collect();
    assert_eq!(broken, [""; 0]);
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = "# A `b`: c_d-e\n## Twice\n## Twice\n```\n# [code](no)\n```\n\
                [a](#a-b-c_d-e) [b](#twice-1) [c](../Cargo.toml) [d](https://x.example/no) \
                [e](tour.md#there) [f](tour.md#not) [g](#code) [h](no.md) [i](../Cargo.toml#x)";
    let pages = [("docs/page.md", page), ("docs/tour.md", "# There")];
    let documents = pages.map(|(path, text)| (path.into(), text.to_owned())).into();
    let broken = broken(Path::new("docs/page.md"), &documents);
    let expected = ["tour.md#not", "#code", "no.md", "../Cargo.toml#x"];
    assert_eq!(broken, expected.map(|link| format!("docs/page.md: {link}")));
}

/// A page that nobody is sent to is not read.
#[test]
fn the_readme_leads_to_every_page() {
    let documents = documents();
    let readme = &documents[Path::new("README.md")];
    let linked: BTreeSet<_> =
        links(readme).iter().map(|link| link.split('#').next().unwrap_or_default()).collect();
    for page in documents.keys().filter(|page| page.starts_with("docs")) {
        assert!(linked.contains(page.to_str().expect("it is ASCII")), "{}", page.display());
    }
    assert!(readme.lines().count() <= 140, "what is longer belongs into docs/");
}

/// An alert that wakes somebody is in the page that they open.
#[test]
fn every_alert_is_documented() {
    let rules = fs::read_to_string(path("deploy/prometheus/rules.yaml")).expect("the rules");
    let after = |line: &'static str| rules.split(line).skip(1);
    let alerts: BTreeSet<_> = after("- alert: ")
        .map(|rest| {
            let name = rest.lines().next().expect("a name");
            let severity = rest.split("severity: ").nth(1).expect("a severity");
            format!("| `{name}` | {} |", severity.split(' ').next().expect("a word"))
        })
        .collect();
    let documents = documents();
    let rows = documents[Path::new("docs/operations.md")].lines();
    let documented: BTreeSet<_> = rows
        .filter(|row| row.starts_with("| `Roomcast"))
        .map(|row| row.splitn(4, '|').take(3).collect::<Vec<_>>().join("|") + "|")
        .collect();
    assert_eq!(documented, alerts);
    assert!(alerts.len() > 20);
}
