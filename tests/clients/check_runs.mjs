// Tuning through the API: estimate, start with settings, follow live, pause, resume, stop and keep.
import assert from "node:assert/strict";

import { api, check, runCases, setting, until } from "./support.mjs";

const datanet = (await api("/v1/datanets")).json.data[0].id;
const short = { length: { steps: 24 }, eval_every: 8, checkpoint_every: 6, lora: { rank: 4, alpha: 8 } };

/** Starts a run and returns its id. */
async function start(name, settings) {
  const { status, json, text } = await api("/v1/runs", { body: { datanet, preset: "quick", name, settings } });
  assert.equal(status, 202, text);
  return json.id;
}

const run = async (id) => (await api(`/v1/runs/${id}`)).json;
const ended = (id, ...states) =>
  until(`run ${id}: ${states}`, 120, async () => {
    const { status } = await run(id);
    assert.notEqual(status, "failed", (await run(id)).message);
    return states.includes(status);
  });

/** The events of a stream until it ends, as [name, id, data]. */
async function* events(path, headers = {}) {
  const response = await fetch(setting("OPENLEDGER_HTTP") + path, {
    headers: { accept: "text/event-stream", ...headers },
  });
  assert.match(response.headers.get("content-type"), /text\/event-stream/);
  let text = "";
  for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {
    text += bytes;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const lines = text.slice(0, end).split("\n");
      const field = (name) => lines.find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
      if (field("data")) yield [field("event"), field("id"), JSON.parse(field("data"))];
    }
  }
}

check("what a run would take is said before it starts", async () => {
  const { json } = await api("/v1/runs/estimate", { body: { datanet, settings: short } });
  assert.deepEqual(json.data.map((preset) => preset.name), ["quick", "standard", "thorough"]);
  for (const preset of json.data) {
    assert.equal(preset.steps, 24);
    assert.ok(preset.memory_bytes > 0 && preset.seconds > 0 && preset.free_bytes > preset.memory_bytes);
  }
});

check("settings that do not fit are refused by name", async () => {
  for (const [settings, word] of [
    [{ lora: { rnk: 3 } }, /rnk/],
    [{ lora: { rank: 0 } }, /rank/],
    [{ learning_rate: "fast" }, /fast/],
    [{ lora: { targets: ["lm_head"] } }, /targets/],
  ]) {
    const { status, json } = await api("/v1/runs", { body: { datanet, preset: "quick", name: "refused", settings } });
    assert.equal(status, 400);
    assert.equal(json.error.param, "settings");
    assert.match(json.error.message, word);
  }
  const { json } = await api("/v1/runs", { body: { datanet, preset: "huge", name: "refused" } });
  assert.equal(json.error.param, "preset");
  assert.equal((await api("/v1/runs/run-999/metrics")).status, 404);
});

check("a run is followed live, step by step, to its end", async () => {
  const id = await start("followed-live", short);
  const seen = [];
  let end;
  for await (const [name, event, data] of events(`/v1/runs/${id}/metrics`)) {
    if (name === "end") end = data;
    else {
      assert.equal(Number(event), data.step);
      seen.push(data);
    }
  }
  assert.equal(end.status, "succeeded");
  assert.deepEqual(seen.map((step) => step.step), Array.from({ length: 24 }, (_, i) => i + 1));
  for (const step of seen) {
    for (const field of ["loss", "smoothed", "perplexity", "lr", "grad_norm", "tokens", "tokens_per_second", "eta_seconds"]) {
      assert.ok(Number.isFinite(step[field]), `step ${step.step}: ${field} is ${step[field]}`);
    }
    assert.equal(step.eval !== null, step.step % 8 === 0);
  }
  // The list says the same, and who comes back gets what is missing.
  const { json } = await api(`/v1/runs/${id}/metrics?after=10&limit=5`);
  assert.deepEqual(json.data, seen.slice(10, 15));
  const rest = [];
  for await (const [, , data] of events(`/v1/runs/${id}/metrics`, { "last-event-id": "22" })) rest.push(data);
  assert.deepEqual(rest, [...seen.slice(22), end]);
  assert.deepEqual((await run(id)).points, seen);
});

check("paused, resumed, and stopped with what it has learned", async () => {
  const long = { ...short, length: { steps: 100_000 }, eval_every: 0 };
  const id = await start("stopped-and-kept", long);
  await until("a step", 60, async () => (await run(id)).points.length > 2);
  await api(`/v1/runs/${id}/pause`, { body: {} });
  await ended(id, "paused");
  const paused = await run(id);
  assert.ok(paused.points.length < 100_000);
  assert.deepEqual(paused.points.map((step) => step.step), paused.points.map((_, i) => i + 1));

  await api(`/v1/runs/${id}/resume`, { body: {} });
  await until("a step more", 60, async () => (await run(id)).points.length > paused.points.length);
  await api(`/v1/runs/${id}/pause`, { body: {} });
  await ended(id, "paused");
  await api(`/v1/runs/${id}/stop`, { body: {} });
  await ended(id, "succeeded");
  const { json } = await api("/v1/models");
  assert.ok(json.data.some((model) => model.id === "stopped-and-kept"), "the adapter is kept and served");
  assert.equal((await api(`/v1/runs/${id}/resume`, { body: {} })).status, 409);
});

await runCases();
