// The conversation: streams /v1/chat/completions and asks who taught each answer.
"use strict";
(() => {
  const chat = document.querySelector("[data-chat]");
  if (!chat) return;
  const find = (selector) => chat.querySelector(selector);
  const [form, input, list, model] = ["[data-composer]", "#ask", "[data-messages]", "[data-model]"].map(find);
  const [send, stop] = [find("[data-send]"), find("[data-stop]")];
  const panel = document.getElementById("taught");
  const history = [];
  let running = null;

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
  };

  const bubble = (role, text) => {
    find("[data-welcome]")?.remove();
    const item = element("li", `message ${role}`);
    if (role === "model") {
      const who = element("div", "who");
      who.append(element("span", "mono", model.value));
      item.append(who);
    }
    item.append(element("div", "body", text));
    list.append(item);
    list.scrollTop = list.scrollHeight;
    return item;
  };

  // The panel's fragment brings the marked answer along; it belongs into the conversation.
  const adopt = () => {
    const marked = panel.querySelector("[data-answer]");
    if (!marked) return;
    const item = list.querySelector(`.message[data-id="${CSS.escape(marked.dataset.answer)}"]`);
    if (!item) return;
    const body = item.querySelector(".body");
    body.replaceChildren(...marked.childNodes);
    marked.remove();
  };
  document.addEventListener("htmx:after:swap", adopt);
  document.addEventListener("htmx:after:settle", adopt);

  const trace = (item) => {
    for (const other of list.querySelectorAll(".message.chosen")) other.classList.remove("chosen");
    item.classList.add("chosen");
    window.openledgerClearSources?.(chat);
    htmx.ajax("GET", `/attributions/${encodeURIComponent(item.dataset.id)}/panel`, { target: "#taught", swap: "innerHTML" });
  };

  // Server-sent events out of a fetch, since EventSource cannot post.
  async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      const parts = rest.split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length) yield data.join("\n");
      }
    }
  }

  const ask = async (text) => {
    bubble("user", text);
    history.push({ role: "user", content: text });
    const item = bubble("model", "");
    const body = item.querySelector(".body");
    item.classList.add("waiting");
    running = new AbortController();
    send.hidden = true;
    stop.hidden = false;
    let answer = "";
    try {
      const key = chat.dataset.key ?? find("[data-api-key]")?.value ?? "";
      const reply = await fetch("/v1/chat/completions", {
        method: "POST",
        signal: running.signal,
        headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
        body: JSON.stringify({
          model: model.value,
          // Small models were tuned on single questions: earlier turns would only confuse them.
          messages: find("[data-context]").checked ? history : history.slice(-1),
          stream: true,
          max_tokens: Number(find("[data-max-tokens]").value) || 80,
          temperature: Number(find("[data-temperature]").value) || 0,
        }),
      });
      if (!reply.ok) {
        const problem = await reply.json().catch(() => null);
        throw new Error(problem?.error?.message ?? `the node answered ${reply.status}`);
      }
      item.dataset.id = reply.headers.get("x-openledger-attribution") ?? "";
      for await (const data of events(reply.body)) {
        if (data === "[DONE]") break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        item.dataset.id ||= chunk.id ?? "";
        answer += chunk.choices?.[0]?.delta?.content ?? "";
        body.textContent = answer;
        list.scrollTop = list.scrollHeight;
      }
      history.push({ role: "assistant", content: answer });
      announce("Answer complete");
    } catch (error) {
      if (error.name === "AbortError") {
        if (answer) history.push({ role: "assistant", content: answer }); else history.pop();
        body.append(element("span", "muted", answer ? " (stopped)" : "(stopped)"));
      } else {
        history.pop();
        body.append(element("p", "error", `No answer: ${error.message}`));
      }
    } finally {
      item.classList.remove("waiting");
      running = null;
      send.hidden = false;
      stop.hidden = true;
      input.focus();
    }
    if (answer && item.dataset.id) {
      const who = element("button", "pick", "Who taught this?");
      who.type = "button";
      who.dataset.who = "";
      who.addEventListener("click", () => trace(item));
      item.querySelector(".who").append(who);
      trace(item);
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text || running) return;
    input.value = "";
    ask(text);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  stop.addEventListener("click", () => running?.abort());
  chat.addEventListener("click", (event) => {
    const example = event.target.closest("[data-example]");
    if (!example) return;
    input.value = example.dataset.example;
    form.requestSubmit();
  });
  // Another model has other examples and no memory of this conversation.
  model.addEventListener("change", () => { location.search = new URLSearchParams({ model: model.value }).toString(); });
})();
