//! The page that documents the keys.

use super::*;

const PAGE: &str = include_str!("../../../docs/configuration.md");

/// The rows about keys: key, default, type and meaning.
fn rows(page: &str) -> Vec<[&str; 4]> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        cells.try_into().unwrap_or_else(|_| panic!("a row has four cells: {row}"))
    })
    .collect()
}

/// A value as it is in force where a file says so.
fn in_force(key: &str, text: &str) -> Result<Option<String>, String> {
    let raw = format!("{key} = {text}\n");
    let raw = if toml::from_str::<toml::Table>(&raw).is_ok() {
        raw
    } else {
        format!("{key} = \"{text}\"\n")
    };
    let file = file(&raw);
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    let loaded = load(&sources).map_err(|error| error.to_string())?;
    Ok(value(&loaded.entries, key))
}

fn value(entries: &[Entry], key: &str) -> Option<String> {
    let entry = entries.iter().find(|entry| entry.key == key)?;
    entry.set.as_ref().map(|(value, _)| value.clone())
}

/// What is wrong with a page.
fn faults(page: &str) -> Vec<String> {
    let Loaded { entries, .. } = load(&Sources::default()).unwrap();
    let rows = rows(page);
    let mut faults = Vec::new();
    for Entry { key, .. } in &entries {
        let times = rows.iter().filter(|[cell, ..]| *cell == format!("`{key}`")).count();
        if times != 1 {
            faults.push(format!("{key} is documented {times} times"));
        }
    }
    for [key, default, kind, meaning] in rows {
        let key = key.trim_matches('`');
        if kind.is_empty() || meaning.is_empty() {
            faults.push(format!("{key} has an empty cell"));
        }
        if !entries.iter().any(|entry| entry.key == key) {
            faults.push(format!("{key} is no key"));
            continue;
        }
        let documented = match default {
            "none" => Ok(None),
            text => in_force(key, text.trim_matches('`')),
        };
        let default = value(&entries, key);
        if documented.as_ref() != Ok(&default) {
            faults.push(format!("{key} is {default:?} rather than {documented:?}"));
        }
    }
    faults
}

#[test]
fn every_key_is_documented_with_its_default() {
    assert_eq!(faults(PAGE), [""; 0]);
}

#[test]
fn a_page_that_is_wrong_is_found_out() {
    let row = PAGE.lines().find(|line| line.starts_with("| `names.lease`")).unwrap();
    let with = |other: &str| faults(&PAGE.replace(row, other));
    assert_eq!(with(""), ["names.lease is documented 0 times"]);
    assert_eq!(with(&format!("{row}\n{row}")), ["names.lease is documented 2 times"]);
    assert_eq!(
        with(&format!("{row}\n| `names.leese` | none | x | x |")),
        ["names.leese is no key"]
    );
    let other = with(&row.replace("`15s`", "`16s`"));
    assert_eq!(
        other,
        ["names.lease is Some(\"\\\"15s\\\"\") rather than Ok(Some(\"\\\"16s\\\"\"))"]
    );
    assert_eq!(with(&row.replace("`15s`", "none")).len(), 1);
    assert_eq!(with(&row.replace("`15s`", "`soon`")).len(), 1);
    assert_eq!(with("| `names.lease` | `15s` | duration | |").len(), 1);
}
