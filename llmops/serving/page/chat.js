// The page to talk to the model, rate its answers and correct them. base.js is loaded before it.
"use strict";

const NEAR_PX = 120; // so near the end of the page, it follows what is being written
const TOO_LONG = "This chat is longer than the model can remember. Start a new one.";
let talk = []; // the messages of this chat, as the API takes them
let model = null;
let running = null; // the AbortController of the answer that is being written

function inWords(said, status) {
  const error = said.error ?? {};
  if (error.code === "context_length_exceeded" && talk.length) return TOO_LONG;
  if (error.message) return `${capital(error.message)}.`;
  return `${capital(error.what ?? `the server said ${status}`)}. ${capital(error.do ?? "try again")}.`;
}

async function call(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const options = body && { method: "POST", headers, body: JSON.stringify(body), signal };
  let response;
  try {
    response = await asked(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached. Is it still running?");
  }
  if (!response.ok) throw new Error(inWords(await response.json().catch(() => ({})), response.status));
  return response;
}

// The JSON of each server-sent event of a response, up to [DONE].
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Error("The answer broke off. Is the server still running?");
      const blocks = (held + value).split("\n\n");
      held = blocks.pop();
      for (const block of blocks) {
        const data = block.replace(/^data: ?/, "");
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new Error(inWords(event, 500));
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function turn(kind, words) {
  const made = $(`turn-${kind}`).content.firstElementChild.cloneNode(true);
  made.querySelector(".words").textContent = words;
  $("talk").append(made);
  $("empty").hidden = true;
  return made;
}

function follow(work) {
  const page = document.documentElement;
  const near = page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_PX;
  work();
  if (near) page.scrollTop = page.scrollHeight;
}

function writing(controller) {
  running = controller;
  $("stop").hidden = !controller;
  $("send").disabled = Boolean(controller);
  $("fresh").disabled = !controller && !talk.length;
}

// Writes an answer into the page as it comes; returns {id, text, ended}.
async function write(line, path, body) {
  const controller = new AbortController();
  const words = line.querySelector(".words");
  const answer = { id: null, text: "", ended: null };
  line.classList.add("writing");
  writing(controller);
  try {
    const response = await call(path, { ...body, stream: true }, controller.signal);
    for await (const event of events(response)) {
      answer.id = event.id;
      const choice = event.choices[0];
      if (!choice) continue;
      answer.text += choice.delta?.content ?? choice.text ?? "";
      answer.ended = choice.finish_reason ?? answer.ended;
      follow(() => { words.textContent = answer.text; });
    }
  } catch (error) {
    if (error.name !== "AbortError") throw Object.assign(error, { answer });
    answer.ended = "stopped";
  } finally {
    line.classList.remove("writing");
    if (running === controller) writing(null);
  }
  return answer;
}

const ENDINGS = { length: "It ended here because answers may not be longer.", stopped: "You stopped it here." };

async function ask(text) {
  trouble(null);
  const chat = talk;
  const asked = turn("user", text);
  const line = turn("answer", "");
  follow(() => line.scrollIntoView({ block: "end" }));
  const messages = [...chat, { role: "user", content: text }];
  const [path, body] = model.chats
    ? ["v1/chat/completions", { messages }]
    : ["v1/completions", { prompt: text, max_tokens: model.generation.max_tokens ?? 100 }];
  try {
    const answer = await write(line, path, body);
    if (chat !== talk) return; // a new chat was begun meanwhile
    const kept = { role: "assistant", content: answer.text };
    chat.push(messages.at(-1), kept);
    follow(() => ended(line, answer, kept));
  } catch (error) {
    if (chat !== talk) return;
    trouble(error);
    if (!error.answer?.text) {
      asked.remove();
      line.remove();
      $("empty").hidden = $("talk").children.length > 0;
      if (!$("text").value) $("text").value = text;
    }
  }
  if (!running) writing(null);
}

function ended(line, answer, kept) {
  const why = ENDINGS[answer.ended] ?? (answer.text ? "" : "It said nothing.");
  line.querySelector(".ended").textContent = why;
  line.querySelector(".ended").hidden = !why;
  $("heard").textContent = `The model said: ${answer.text}`;
  if (answer.id && model.keeps_log) judged(line, answer, kept);
}

// The thumbs and the edit box of one answer; `kept` is its message in the conversation.
function judged(line, answer, kept) {
  const find = (name) => line.querySelector(`.${name}`);
  const said = (rating, correction) => call("v1/feedback", { id: answer.id, rating, correction, by: "page" });
  const open = (wide) => {
    find("correct").hidden = !wide;
    find("mend").setAttribute("aria-expanded", String(wide));
    (wide ? find("right") : find("mend")).focus();
  };
  const rate = (button, rating, thanks) => guarded(button, async () => {
    await said(rating);
    for (const name of ["good", "bad"]) find(name).setAttribute("aria-pressed", String(find(name) === button));
    find("thanks").textContent = thanks;
  });
  find("right").value = answer.text;
  find("right").maxLength = model.max_text_chars;
  find("good").addEventListener("click", (event) => rate(event.currentTarget, 1, "Thank you, noted as good."));
  find("bad").addEventListener("click", (event) => rate(event.currentTarget, -1, "Thank you, noted as bad. What should it have said?"));
  find("mend").addEventListener("click", () => open(find("correct").hidden));
  find("leave").addEventListener("click", () => open(false));
  find("correct").addEventListener("submit", (event) => {
    event.preventDefault();
    const right = find("right").value.trim();
    guarded(event.submitter, async () => {
      if (!right) throw new Error("The right answer is empty. Write what it should have said.");
      await said(-1, right);
      find("good").setAttribute("aria-pressed", "false");
      find("bad").setAttribute("aria-pressed", "true");
      find("words").textContent = right;
      find("who").textContent = "Model, corrected by you";
      find("thanks").textContent = "Thank you, the conversation goes on from your words.";
      kept.content = right;
      open(false);
    });
  });
  find("judge").hidden = false;
}

function fresh() {
  talk = [];
  running?.abort();
  $("talk").replaceChildren();
  $("empty").hidden = false;
  $("heard").textContent = "";
  trouble(null);
  writing(null);
  $("text").focus();
}

async function introduce() {
  model = await (await call("v1/model")).json();
  const version = model.version ? `version ${model.version}` : "a bundle that is not promoted";
  $("about").textContent = `${model.name}, ${version}; it remembers ${model.context.toLocaleString("en")} tokens.`;
  if (!model.chats) {
    $("title").textContent = "Write with the model";
    $("prompt").textContent = "How does it begin?";
    $("text").placeholder = "Type a beginning";
    $("fresh").textContent = "Clear";
    $("empty").textContent = "Nothing written yet. The model goes on from your words.";
  }
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (running || !model || !text.trim()) return;
  $("text").value = "";
  ask(text);
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("stop").addEventListener("click", () => {
  running?.abort();
  $("text").focus();
});
$("fresh").addEventListener("click", fresh);
introduce().catch(trouble);
