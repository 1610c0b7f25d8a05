//! What a `PromQL` expression refers to. Only that: whether it is one is for `promtool` to say.

/// A metric with its matchers, as in `up{job="roomcast"}`.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Selector {
    pub(super) metric: String,
    pub(super) matchers: Vec<Matcher>,
}

/// One matcher of a selector.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Matcher {
    pub(super) label: String,
    pub(super) operator: String,
    pub(super) value: String,
}

impl Matcher {
    /// The values that it names; none when it is a pattern that names no value.
    pub(super) fn values(&self) -> Vec<&str> {
        let regex = self.operator.ends_with('~');
        self.value.split(if regex { "|" } else { "\0" }).filter(|it| !it.contains(".+")).collect()
    }
}

/// What an expression refers to.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct References {
    pub(super) selectors: Vec<Selector>,
    /// The labels by which it groups and joins.
    pub(super) labels: Vec<String>,
}

impl References {
    /// Of an expression without variables.
    pub(super) fn of(expression: &str) -> Self {
        let mut references = Self::default();
        let mut rest = Scanner(expression);
        while let Some(next) = rest.peek() {
            match next {
                '"' => drop(rest.string()),
                '[' => drop(rest.until(']')),
                _ if next.is_ascii_digit() => drop(rest.word()),
                _ if is_word(next) => references.word(&mut rest),
                _ => rest.skip(),
            }
        }
        references
    }

    fn word(&mut self, rest: &mut Scanner<'_>) {
        let word = rest.word().to_owned();
        let next = rest.peek();
        match word.as_str() {
            "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" => {
                if next == Some('(') {
                    rest.skip();
                    let labels = rest.until(')').split(',').map(str::trim);
                    self.labels.extend(labels.filter(|it| !it.is_empty()).map(str::to_owned));
                }
            }
            "and" | "or" | "unless" | "bool" | "offset" => {}
            _ if next == Some('(') || rest.0.starts_with("by ") || rest.0.starts_with("by(") => {}
            _ => {
                let matchers = if next == Some('{') { rest.matchers() } else { Vec::new() };
                self.selectors.push(Selector { metric: word, matchers });
            }
        }
    }
}

/// What of an expression is still to be read. It begins with no space.
struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    fn peek(&mut self) -> Option<char> {
        self.0 = self.0.trim_start();
        self.0.chars().next()
    }

    fn skip(&mut self) {
        let length = self.0.chars().next().map_or(0, char::len_utf8);
        self.take(length);
        self.peek();
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        self.peek();
        taken
    }

    fn word(&mut self) -> &'a str {
        let length = self.0.find(|it| !is_word(it) && it != '.').unwrap_or(self.0.len());
        self.take(length)
    }

    /// Up to this character, and takes it too.
    fn until(&mut self, end: char) -> &'a str {
        let length = self.0.find(end).unwrap_or_else(|| panic!("no {end:?} in {}", self.0));
        let found = self.take(length);
        self.skip();
        found
    }

    fn string(&mut self) -> &'a str {
        self.skip();
        self.until('"')
    }

    fn matchers(&mut self) -> Vec<Matcher> {
        let mut matchers = Vec::new();
        self.skip();
        loop {
            match self.peek() {
                Some('}') => break self.skip(),
                Some(',') => self.skip(),
                _ => {
                    let label = self.word().to_owned();
                    let operator = self.0.find('"').expect("a value in quotes");
                    let operator = self.take(operator).trim().to_owned();
                    matchers.push(Matcher { label, operator, value: self.string().to_owned() });
                }
            }
        }
        matchers
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | ':')
}

#[test]
fn finds_what_an_expression_refers_to() {
    let expression = r#"
        histogram_quantile(0.99, sum by (job, le) (rate(a_bucket{job="x", r=~"b|c"}[5m])))
        > clamp_min(1e-3 * sum(b:c:d) by (job), 10) unless on (instance) e offset 5m == 1"#;
    let matcher = |label: &str, operator: &str, value: &str| Matcher {
        label: label.to_owned(),
        operator: operator.to_owned(),
        value: value.to_owned(),
    };
    let selector = |metric: &str, matchers| Selector { metric: metric.to_owned(), matchers };
    let expected = References {
        selectors: vec![
            selector("a_bucket", vec![matcher("job", "=", "x"), matcher("r", "=~", "b|c")]),
            selector("b:c:d", vec![]),
            selector("e", vec![]),
        ],
        labels: ["job", "le", "job", "instance"].map(str::to_owned).to_vec(),
    };
    assert_eq!(References::of(expression), expected);
    assert_eq!(matcher("r", "=~", "b|c").values(), ["b", "c"]);
    assert_eq!(matcher("r", "=~", ".+").values(), [""; 0]);
}
