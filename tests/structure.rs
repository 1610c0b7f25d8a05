//! The shape of the code: imports point downward, and no two modules import each other, directly or by
//! way of others.
//!
//! Every path of the source that begins in this crate is resolved to the file that defines what it names,
//! re-exports included. A module may use what is above it in the same tree (`super::`), and a module its own
//! submodules: only imports between modules of which neither contains the other count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Item, Meta, UseTree,
    visit::{self, Visit},
};

/// The top-level modules, from the top down. A module may import from its own layer's modules and from all
/// layers below.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["app"],
    &["gateway", "admin", "cli", "terminal", "telemetry", "token"],
    &["config"],
    &["session"],
    &["hub"],
    &["backplane"],
    &["room"],
    &["transport"],
    &["trace", "tls", "health", "lifecycle"],
    &["memory"],
    &["metrics", "descriptors", "backoff", "proto", "wakers"],
    &["domain"],
];

/// A module's path from the crate's root: empty for the root.
type ModulePath = Vec<String>;

/// Where an import leads, and the path in the source.
type Arrows = BTreeMap<(ModulePath, ModulePath), String>;

#[derive(Default)]
struct Source {
    /// Each module that is a file, and its syntax.
    files: BTreeMap<ModulePath, syn::File>,
    /// What modules name anew: module, name, and what the name stands for.
    exports: BTreeMap<(ModulePath, String), Vec<String>>,
}

impl Source {
    fn read(root: &Path) -> Self {
        let mut source = Self::default();
        source.read_directory(root, &[]);
        source.leave_out_tests();
        let files = std::mem::take(&mut source.files);
        for (module, file) in &files {
            for item in &file.items {
                let Item::Use(item) = item else { continue };
                if is_for_tests(&item.attrs) {
                    continue;
                }
                for (path, name) in leaves(&item.tree) {
                    source.exports.insert((module.clone(), name), path);
                }
            }
        }
        source.files = files;
        source
    }

    fn read_directory(&mut self, directory: &Path, module: &[String]) {
        let entries = fs::read_dir(directory).expect("a directory of the source");
        let mut paths: Vec<PathBuf> = entries.map(|it| it.expect("an entry").path()).collect();
        paths.sort();
        for path in paths {
            let stem = path.file_stem().and_then(|it| it.to_str()).expect("UTF-8").to_owned();
            let below = [module, std::slice::from_ref(&stem)].concat();
            if path.is_dir() {
                self.read_directory(&path, &below);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).expect("a file of the source");
                let file = syn::parse_file(&text)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                self.files.insert(if stem == "lib" { vec![] } else { below }, file);
            }
        }
    }

    /// Leaves out the modules that are there in tests only, with all that is in them.
    fn leave_out_tests(&mut self) {
        let mut tests = vec![];
        for (module, file) in &self.files {
            for item in &file.items {
                if let Item::Mod(item) = item
                    && is_for_tests(&item.attrs)
                {
                    tests.push([&module[..], &[item.ident.to_string()]].concat());
                }
            }
        }
        self.files.retain(|module, _| !tests.iter().any(|it| module.starts_with(it)));
    }

    /// The module that defines what a path names, if that is in this crate.
    fn definer(&self, from: &ModulePath, path: &[String], depth: usize) -> Option<ModulePath> {
        assert!(depth < 32, "{path:?} in {from:?} leads in a circle");
        let (mut at, mut rest) = match path.first()?.as_str() {
            "crate" => (vec![], &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => {
                let levels = path.iter().take_while(|it| *it == "super").count();
                (from[..from.len().checked_sub(levels)?].to_vec(), &path[levels..])
            }
            first if self.files.contains_key(&[&from[..], &[first.to_owned()]].concat()) => {
                (from.clone(), path)
            }
            _ => return None,
        };
        while let Some((first, behind)) = rest.split_first() {
            let below = [&at[..], std::slice::from_ref(first)].concat();
            if self.files.contains_key(&below) {
                (at, rest) = (below, behind);
                continue;
            }
            if let Some(export) = self.exports.get(&(at.clone(), first.clone())) {
                let path = [&export[..], behind].concat();
                // What is not of this crate is named by whoever brings it in.
                return self.definer(&at, &path, depth + 1).or(Some(at));
            }
            break;
        }
        Some(at)
    }

    /// All imports between modules of which neither contains the other.
    fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (module, file) in &self.files {
            let mut paths = Paths::default();
            paths.visit_file(file);
            for path in paths.0 {
                let Some(to) = self.definer(module, &path, 0) else { continue };
                if !module.starts_with(&to) && !to.starts_with(module) {
                    arrows.entry((module.clone(), to)).or_insert_with(|| path.join("::"));
                }
            }
        }
        arrows
    }
}

/// Every path that is written in a file, but for its tests.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attrs = match item {
            Item::Use(it) => &it.attrs,
            Item::Mod(it) => &it.attrs,
            Item::Fn(it) => &it.attrs,
            Item::Impl(it) => &it.attrs,
            _ => return visit::visit_item(self, item),
        };
        if is_for_tests(attrs) {
            return;
        }
        if let Item::Use(item) = item {
            self.0.extend(leaves(&item.tree).into_iter().map(|(path, _)| path));
        }
        visit::visit_item(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|it| it.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The paths of a `use`, and the name that each has then.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    match tree {
        UseTree::Path(it) => leaves(&it.tree)
            .into_iter()
            .map(|(path, name)| {
                let first = it.ident.to_string();
                if path.first().is_some_and(|it| it == "self") {
                    // `a::{self}` names `a`.
                    (vec![first.clone()], if name == "self" { first } else { name })
                } else {
                    ([vec![first], path].concat(), name)
                }
            })
            .collect(),
        UseTree::Name(it) => vec![(vec![it.ident.to_string()], it.ident.to_string())],
        UseTree::Rename(it) => vec![(vec![it.ident.to_string()], it.rename.to_string())],
        UseTree::Glob(_) => vec![(vec![], "*".to_owned())],
        UseTree::Group(it) => it.items.iter().flat_map(leaves).collect(),
    }
}

/// Whether an item is there in tests only.
fn is_for_tests(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let tokens = list.tokens.to_string();
            tokens == "test" || tokens.starts_with("any (test") || tokens.starts_with("all (test")
        }
        _ => false,
    })
}

/// Modules that import each other, each circle as the modules on it.
fn circles(arrows: &Arrows) -> Vec<BTreeSet<&ModulePath>> {
    let mut next: BTreeMap<&ModulePath, Vec<&ModulePath>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        next.entry(from).or_default().push(to);
    }
    let reach = |start: &ModulePath| {
        let (mut seen, mut left) = (BTreeSet::new(), vec![start]);
        while let Some(at) = left.pop() {
            for to in next.get(at).into_iter().flatten() {
                if seen.insert(*to) {
                    left.push(to);
                }
            }
        }
        seen.into_iter().cloned().collect::<BTreeSet<ModulePath>>()
    };
    let reached: BTreeMap<&ModulePath, BTreeSet<ModulePath>> =
        next.keys().map(|module| (*module, reach(module))).collect();
    let on_circle = |module: &&ModulePath| reached[*module].contains(*module);
    let mut found: Vec<BTreeSet<&ModulePath>> = vec![];
    for module in next.keys().copied().filter(|it| on_circle(it)) {
        let circle: BTreeSet<&ModulePath> = next
            .keys()
            .copied()
            .filter(|it| reached[module].contains(*it) && reached[*it].contains(module))
            .collect();
        if !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

/// The number of a module's layer, counted from the top.
fn layer(module: &ModulePath) -> Option<usize> {
    let top = module.first()?;
    let layer = LAYERS.iter().position(|layer| layer.contains(&top.as_str()));
    Some(layer.unwrap_or_else(|| panic!("{top} is in no layer: add it to LAYERS")))
}

fn upward(arrows: &Arrows) -> Vec<String> {
    let mut found = vec![];
    for ((from, to), path) in arrows {
        if let (Some(own), Some(other)) = (layer(from), layer(to))
            && other < own
        {
            found.push(format!("{} imports {path}", from.join("::")));
        }
    }
    found
}

fn source() -> Source {
    Source::read(&root().join("src"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What each package of the workspace is made of.
fn packages() -> Vec<Source> {
    let crates = fs::read_dir(root().join("crates")).expect("the other packages");
    let sources = crates.map(|it| it.expect("a package").path().join("src"));
    let all: Vec<_> = sources.map(|it| Source::read(&it)).chain([source()]).collect();
    assert!(all.len() > 5, "{} packages were found", all.len());
    all
}

#[test]
fn no_modules_import_each_other() {
    let (mut told, mut count) = (vec![], 0);
    for arrows in packages().iter().map(Source::arrows) {
        count += arrows.len();
        for circle in circles(&arrows) {
            told.push("These import each other; move what both need below them:".to_owned());
            for ((from, to), path) in &arrows {
                if circle.contains(from) && circle.contains(to) {
                    told.push(format!("  {} -> {}: {path}", from.join("::"), to.join("::")));
                }
            }
        }
    }
    assert!(count > 500, "{count} imports were found");
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn imports_point_downward() {
    let found = upward(&source().arrows());
    assert!(found.is_empty(), "these point upward, see LAYERS:\n{}", found.join("\n"));
}

#[test]
fn a_circle_and_an_upward_import_are_found() {
    let mut source = source();
    assert!(circles(&source.arrows()).is_empty());
    // Through a re-export, as most imports are written.
    let add = |source: &mut Source, module: &str, line: &str| {
        let module: ModulePath = module.split("::").map(str::to_owned).collect();
        let item = syn::parse_str(line).expect("an item");
        source.files.get_mut(&module).expect("a module").items.push(item);
    };
    add(&mut source, "domain::room_name", "use crate::hub::Hub;");
    let arrows = source.arrows();
    assert_eq!(upward(&arrows), ["domain::room_name imports crate::hub::Hub"]);
    assert!(circles(&arrows).iter().any(|it| it.len() > 2));
}
