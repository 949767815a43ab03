//! From texts to a [`Policy`]: parsed, validated against the schema, checked for Guard's own rules.

use crate::{
    annotation::{self, Annotations},
    literal::Literals,
    names::NAMES,
    nesting::too_deep,
    problem::{Located, PolicyError, Problem},
    scope::{ActionScopes, ActionSets, concerns_files, for_every_action},
    token::tokens,
    usage::ContextUse,
};
use cedar_policy::{
    ActionConstraint, Authorizer, Effect, PolicyId, PolicySet, Schema, ValidationMode, Validator,
};
use guard_model::PolicyStatement;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeSet, HashMap},
    str::FromStr as _,
    sync::LazyLock,
};

/// Most files that one policy may consist of.
pub const MAX_SOURCES: usize = 64;
/// Largest file, bytes: a policy is read by people.
pub const MAX_SOURCE_BYTES: usize = 1 << 20;
/// Most statements: every one is looked at for every action.
pub const MAX_STATEMENTS: usize = 4096;

/// The Cedar schema, as text.
pub const SCHEMA_TEXT: &str = include_str!("../schema/guard.cedarschema");
const DEFAULT_FILE: &str = "default.cedar";
const DEFAULT_TEXT: &str = include_str!("../packs/default.cedar");

/// The schema, parsed once.
#[expect(clippy::expect_used, reason = "a constant; every test would fail")]
pub(crate) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA_TEXT).expect("the schema is valid");
    schema
});

/// One policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// Its name, as errors and statements show it.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// A policy: parsed, validated, immutable.
#[derive(Debug)]
pub struct Policy {
    pub(crate) sets: ActionSets,
    pub(crate) authorizer: Authorizer,
    /// Position in `statements` and `annotations`.
    pub(crate) index: HashMap<PolicyId, usize>,
    pub(crate) statements: Vec<PolicyStatement>,
    pub(crate) annotations: Vec<Annotations>,
    /// What each statement that forbids an action on a file names; nothing for the others.
    pub(crate) named: Vec<Literals>,
    /// All of it.
    pub(crate) all_named: Literals,
    /// Those that name anything.
    pub(crate) name_readers: ActionScopes,
    /// Some statement reads `argv0`, `args` or `argc`.
    pub(crate) reads_argv: bool,
    /// Some statement reads `sha256`.
    pub(crate) reads_content: bool,
    /// Statements that read what a process runs or where it works.
    pub(crate) place_readers: ActionScopes,
    /// Some statement names the action `approve`, so one must permit it.
    pub(crate) rules_approval: bool,
    sources: Vec<PolicySource>,
    digest: String,
}

impl Policy {
    /// Reads, validates and checks `sources` as one policy.
    ///
    /// # Errors
    /// Every problem in every file. Nothing of a policy with a problem is used.
    pub fn load(sources: &[PolicySource]) -> Result<Self, PolicyError> {
        let mut loader = Loader::default();
        loader.limits(sources);
        if loader.problems.is_empty() {
            for source in sources {
                loader.file(Located { file: &source.file, text: &source.text });
            }
        }
        loader.finish(sources)
    }

    /// The pack that is shipped: `guard policy default` prints it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a constant; a test loads it")]
    pub fn default_policy() -> Self {
        Self::load(&[Self::default_source()]).expect("the shipped pack is valid")
    }

    /// The text of the shipped pack.
    #[must_use]
    pub fn default_source() -> PolicySource {
        PolicySource { file: DEFAULT_FILE.to_owned(), text: DEFAULT_TEXT.to_owned() }
    }

    /// SHA-256 over the names and texts of its files, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The names of its files.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.sources.iter().map(|source| source.file.clone()).collect()
    }

    /// The names of its files with their texts.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sources.iter().map(|source| (source.file.as_str(), source.text.as_str()))
    }

    /// Its files.
    #[must_use]
    pub fn sources(&self) -> &[PolicySource] {
        &self.sources
    }

    /// All statements, in the order of the files.
    #[must_use]
    pub fn statements(&self) -> &[PolicyStatement] {
        &self.statements
    }
}

#[derive(Default)]
struct Loader {
    problems: Vec<Problem>,
    policies: Vec<cedar_policy::Policy>,
    unscoped: HashMap<PolicyId, cedar_policy::Policy>,
    statements: Vec<PolicyStatement>,
    annotations: Vec<Annotations>,
    named: Vec<Literals>,
    name_readers: ActionScopes,
    ids: BTreeSet<String>,
    reads_argv: bool,
    reads_content: bool,
    place_readers: ActionScopes,
    rules_approval: bool,
}

impl Loader {
    fn limits(&mut self, sources: &[PolicySource]) {
        let mut refuse = |file: &str, found: String, expected: String| {
            self.problems.push(Located { file, text: "" }.problem((0, 0), found, expected));
        };
        if sources.is_empty() {
            refuse("(no file)", "a policy without files".into(), "expected at least one".into());
        }
        if sources.len() > MAX_SOURCES {
            let found = format!("{} files", sources.len());
            refuse(&sources[MAX_SOURCES].file, found, format!("expected at most {MAX_SOURCES}"));
        }
        let mut names = BTreeSet::new();
        for PolicySource { file, text } in sources {
            if text.len() > MAX_SOURCE_BYTES {
                let found = format!("{} bytes", text.len());
                refuse(file, found, format!("expected at most {MAX_SOURCE_BYTES}"));
            }
            if !names.insert(file) {
                refuse(file, "two files of one name".into(), "name every file once".into());
            }
        }
    }

    fn file(&mut self, source: Located<'_>) {
        if let Some(problem) = too_deep(source) {
            self.problems.push(problem);
            return;
        }
        let set = match PolicySet::from_str(source.text) {
            Ok(set) => set,
            Err(errors) => {
                let whole = (0, source.text.len());
                self.problems.extend(errors.iter().map(|error| source.cedar_problem(error, whole)));
                return;
            }
        };
        for template in set.templates() {
            let key = template.id().to_string();
            self.problems.push(source.problem(
                span_of(template.as_ref().loc()),
                format!("`{key}` is a template"),
                "slots (`?principal`, `?resource`) are not supported: name the entity",
            ));
        }
        let mut policies: Vec<_> = set.policies().collect();
        policies.sort_by_key(|policy| span_of(policy.as_ref().loc()));
        let mut named = Vec::new();
        for policy in policies {
            named.push(self.statement(source, policy));
        }
        self.validate(source, &named);
        self.policies.extend(named);
    }

    /// Checks one statement and gives it its id.
    fn statement(
        &mut self,
        source: Located<'_>,
        policy: &cedar_policy::Policy,
    ) -> cedar_policy::Policy {
        let span = span_of(policy.as_ref().loc());
        let annotations = annotation::read(policy.annotations(), source, span, &mut self.problems);
        let position = self.statements.len();
        if position == MAX_STATEMENTS {
            self.problems.push(source.problem(
                span,
                "too many statements",
                format!("expected at most {MAX_STATEMENTS}"),
            ));
        }
        let mut id = annotations.id.clone().unwrap_or_else(|| format!("policy{position}"));
        if !self.ids.insert(id.clone()) {
            self.problems.push(source.problem(
                annotation::place(source.text, span, "id"),
                format!("a second statement with the id `{id}`"),
                "every id names one statement, in all files together",
            ));
            id = format!("{id}#{position}");
        }
        let json = policy.to_json();
        match &json {
            Ok(json) => {
                self.context_use(source, span, (policy, json), annotations.terms.is_some());
            }
            Err(error) => {
                let found = format!("cannot be examined: {error}");
                self.problems.push(source.problem(span, found, "write it in a simpler way"));
            }
        }
        self.rules_approval |= names_approval(policy);
        self.statements.push(PolicyStatement {
            id: id.clone(),
            file: source.file.to_owned(),
            line: source.line(span.0),
            text: source.text.get(span.0..span.0 + span.1).unwrap_or_default().to_owned(),
            reason: annotations.reason.clone(),
        });
        self.annotations.push(annotations);
        let forbids =
            policy.effect() == Effect::Forbid && concerns_files(&policy.action_constraint());
        let named = json.as_ref().ok().filter(|_| forbids).map(Literals::of).unwrap_or_default();
        if !named.is_empty() {
            self.name_readers.add(&policy.action_constraint());
        }
        self.named.push(named);
        let policy = policy.new_id(PolicyId::new(id));
        let unscoped = json.ok().and_then(|json| for_every_action(&policy, json));
        self.unscoped.extend(unscoped.map(|unscoped| (policy.id().clone(), unscoped)));
        policy
    }

    /// `@hold` and `context.approved` belong together: the terms of a hold come from the statements
    /// that turn with the approval.
    fn context_use(
        &mut self,
        source: Located<'_>,
        span: (usize, usize),
        (policy, json): (&cedar_policy::Policy, &Value),
        holds: bool,
    ) {
        let found = ContextUse::of(json);
        let mut refuse = |place, found: &str, expected: &str| {
            self.problems.push(source.problem(place, found, expected));
        };
        if found.whole {
            let expected = "write `context.attribute`: what is read must be visible";
            refuse(span, "`context` is used as a whole", expected);
        }
        match (holds, found.attributes.contains("approved")) {
            (true, false) => refuse(
                annotation::place(source.text, span, "hold"),
                "`@hold` on a statement that never asks for `context.approved`",
                "approval would change nothing: add `unless { context.approved }` to a forbid, or \
                 `when { context.approved }` to a permit",
            ),
            (false, true) => refuse(
                word_place(source.text, span, "approved"),
                "`context.approved` in a statement without `@hold`",
                "add `@hold(\"group\")`: it says who may approve",
            ),
            _ => {}
        }
        if ["exe", "cwd"].iter().any(|name| found.attributes.contains(*name)) {
            self.place_readers.add(&policy.action_constraint());
        }
        self.reads_content |= found.attributes.contains("sha256");
        self.reads_argv |=
            ["argv0", "args", "argc"].iter().any(|name| found.attributes.contains(*name));
    }

    fn validate(&mut self, source: Located<'_>, policies: &[cedar_policy::Policy]) {
        let spans: HashMap<_, _> = policies
            .iter()
            .map(|policy| (policy.id().clone(), span_of(policy.as_ref().loc())))
            .collect();
        // Ids are unique by now; a set that cannot be built has been reported.
        let Ok(set) = PolicySet::from_policies(policies.iter().cloned()) else { return };
        let result = Validator::new(SCHEMA.clone()).validate(&set, ValidationMode::Strict);
        for error in result.validation_errors() {
            let span = spans.get(error.policy_id()).copied().unwrap_or_default();
            self.problems.push(source.cedar_problem(error, span));
        }
    }

    fn finish(mut self, sources: &[PolicySource]) -> Result<Policy, PolicyError> {
        let set = match PolicySet::from_policies(std::mem::take(&mut self.policies)) {
            Ok(set) => set,
            Err(error) => {
                let nowhere = Located { file: "(all files)", text: "" };
                self.problems.push(nowhere.problem((0, 0), error.to_string(), ""));
                PolicySet::new()
            }
        };
        if let Some(error) = PolicyError::of(self.problems) {
            return Err(error);
        }
        let ids = self.statements.iter().map(|statement| PolicyId::new(&statement.id));
        let mut all_named = Literals::default();
        self.named.iter().for_each(|named| all_named.extend(named));
        Ok(Policy {
            named: self.named,
            all_named,
            name_readers: self.name_readers,
            sets: ActionSets::new(set, &self.unscoped),
            authorizer: Authorizer::new(),
            index: ids.zip(0..).collect(),
            statements: self.statements,
            annotations: self.annotations,
            reads_argv: self.reads_argv,
            reads_content: self.reads_content,
            place_readers: self.place_readers,
            rules_approval: self.rules_approval,
            sources: sources.to_vec(),
            digest: digest(sources),
        })
    }
}

/// Byte offset and length.
fn span_of<T>(place: Option<&T>) -> (usize, usize)
where
    for<'a> &'a T: Into<miette::SourceSpan>,
{
    place.map_or((0, 0), |place| {
        let span: miette::SourceSpan = place.into();
        (span.offset(), span.len())
    })
}

/// Bytes of `word` in the statement, or the statement.
fn word_place(text: &str, (start, length): (usize, usize), word: &str) -> (usize, usize) {
    let statement = text.get(start..start + length).unwrap_or_default();
    let quoted = format!("\"{word}\"");
    tokens(statement)
        .find(|(_, token)| *token == word || *token == quoted)
        .map_or((start, length), |(at, token)| (start + at, token.len()))
}

/// Whether a statement names the action `approve`.
fn names_approval(policy: &cedar_policy::Policy) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => action == NAMES.approve,
        ActionConstraint::In(actions) => actions.contains(&NAMES.approve),
    }
}

fn digest(sources: &[PolicySource]) -> String {
    let mut hash = Sha256::new();
    for part in sources.iter().flat_map(|source| [&source.file, &source.text]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    use std::fmt::Write as _;
    hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
