//! `/metrics`, for Prometheus: text exposition format 0.0.4.
//!
//! It names hosts and sinks, so it needs a role, as the pages do; Prometheus sends an API token.

use super::{App, problem::Problem};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use std::{fmt::Write as _, sync::Arc};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics with their values, as they are written.
#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a metric.
    fn metric(&mut self, name: &'static str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.text.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn one(&mut self, name: &'static str, kind: &str, help: &str, value: u64) {
        self.metric(name, kind, help);
        self.value(name, &[], value);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `GET /metrics`.
pub(crate) async fn show(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let mut out = Exposition::default();
    log_and_sinks(&app, &mut out).await?;
    hosts(&app, &mut out).await?;
    let mut response = out.text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Ok(response)
}

async fn log_and_sinks(app: &App, out: &mut Exposition) -> Result<(), Problem> {
    let health = app.controller.log_health().await?;
    out.one("guard_log_entries", "gauge", "Entries of the evidence log.", health.size);
    let help = "Age of the last signed checkpoint: how long nothing was logged.";
    let age = health.checkpoint_age_ms;
    out.one("guard_log_checkpoint_age_milliseconds", "gauge", help, age);
    let unindexed = health.unindexed();
    out.one("guard_log_unindexed", "gauge", "Entries that cannot be searched yet.", unindexed);
    let help = "Own records that are not in the log yet.";
    out.one("guard_outbox_records", "gauge", help, health.waiting);
    let help = "Entries of the log that tell of lost records or events.";
    out.one("guard_log_loss_entries", "gauge", help, health.lost);
    let retention = &health.retention;
    let help = "Legal holds in force.";
    out.one("guard_legal_holds", "gauge", help, retention.legal_holds);
    let help = "Payloads that rules of retention have erased since the start.";
    out.one("guard_retention_erased_total", "counter", help, retention.erased);
    let help = "How far the wall clock is ahead of the time that retention goes by.";
    let ahead = retention.clock_ahead_ms;
    out.one("guard_retention_clock_ahead_milliseconds", "gauge", help, ahead);
    let help = "1 if the last round of retention failed.";
    let failing = u64::from(retention.failing.is_some());
    out.one("guard_retention_failing", "gauge", help, failing);
    let witnessed = &health.witnessed;
    if witnessed.quorum > 0 {
        let help = "Entries that a quorum of witnesses has cosigned.";
        out.one("guard_log_witnessed_entries", "gauge", help, witnessed.size);
        out.metric("guard_witness_entries", "gauge", "Entries that this witness has cosigned.");
        for witness in &witnessed.witnesses {
            out.value("guard_witness_entries", &[("witness", &witness.name)], witness.size);
        }
        out.metric("guard_witness_failing", "gauge", "1 if it was asked last in vain.");
        for witness in &witnessed.witnesses {
            let failing = u64::from(witness.failing.is_some());
            out.value("guard_witness_failing", &[("witness", &witness.name)], failing);
        }
    }
    type Field = fn(&crate::sinks::SinkView) -> u64;
    let fields: [(&'static str, &str, &str, Field); 7] = [
        ("guard_sink_next_index", "gauge", "First index not delivered.", |sink| sink.next),
        ("guard_sink_lag_entries", "gauge", "Entries not delivered.", |sink| sink.lag),
        ("guard_sink_lag_milliseconds", "gauge", "Age of the oldest of them.", |sink| sink.lag_ms),
        ("guard_sink_delivered_total", "counter", "Events confirmed.", |sink| sink.delivered),
        ("guard_sink_rejected_total", "counter", "Events given up: the receiver refuses them.", {
            |sink| sink.rejected
        }),
        ("guard_sink_failures_total", "counter", "Failed attempts since the start.", |sink| {
            sink.failures
        }),
        ("guard_sink_failing", "gauge", "1 if the last attempt failed.", |sink| {
            u64::from(sink.failing.is_some())
        }),
    ];
    for (name, kind, help, field) in fields {
        out.metric(name, kind, help);
        for sink in &health.sinks {
            out.value(name, &[("sink", &sink.name), ("kind", sink.kind)], field(sink));
        }
    }
    Ok(())
}

async fn hosts(app: &App, out: &mut Exposition) -> Result<(), Problem> {
    let waiting = app.controller.count_holds(&crate::HoldFilter::open()).await?;
    out.one("guard_holds_waiting", "gauge", "Requests that wait for a person.", waiting);
    let hosts = app.controller.hosts().await?;
    let labels = |host: &crate::HostView| (host.id.to_string(), host.hostname.clone());
    out.metric("guard_host_linked", "gauge", "1 if guard-agent of the host is linked.");
    for host in &hosts {
        let (id, name) = labels(host);
        let labels = [("host", id.as_str()), ("hostname", name.as_str())];
        out.value("guard_host_linked", &labels, u64::from(host.link_up));
    }
    out.metric("guard_host_seen_milliseconds", "gauge", "Last message, since 1970.");
    for host in &hosts {
        let (id, name) = labels(host);
        let labels = [("host", id.as_str()), ("hostname", name.as_str())];
        out.value("guard_host_seen_milliseconds", &labels, host.seen_unix_ms);
    }
    let help = "Counters of the kernel and of the spool, at the host's last heartbeat.";
    out.metric("guard_host_counter", "untyped", help);
    for host in &hosts {
        let (id, name) = labels(host);
        for (counter, value) in &host.counters {
            let labels = [("host", id.as_str()), ("hostname", &name), ("counter", counter)];
            out.value("guard_host_counter", &labels, *value);
        }
    }
    Ok(())
}
