//! Expressions in Cedar's JSON form: every operator in them, with its operand.

use serde_json::Value;

/// Calls `see` with each operator and its operand, from the outside in; it says whether to go on inside. The keys of a
/// record are names, not operators.
pub(crate) fn operators(value: &Value, see: &mut impl FnMut(&str, &Value) -> bool) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| operators(item, see)),
        Value::Object(members) => {
            for (operator, operand) in members {
                if operator == "Record" {
                    let members = operand.as_object().into_iter().flat_map(serde_json::Map::values);
                    members.for_each(|member| operators(member, see));
                } else if see(operator, operand) {
                    operators(operand, see);
                }
            }
        }
        _ => {}
    }
}
