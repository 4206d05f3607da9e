// What all pages share. Whatever a user or the server says goes through textContent.
"use strict";

const $ = (id) => document.getElementById(id);
const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function trouble(error) {
  $("trouble").textContent = error ? error.message : "";
  $("trouble").hidden = !error;
}

async function guarded(button, work) {
  button.disabled = true;
  trouble(null);
  try {
    await work();
  } catch (error) {
    trouble(error);
  } finally {
    button.disabled = false;
  }
}

const KEY = "llmops-key"; // a server that asks for a key is told it; the browser forgets it with the tab

async function asked(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (response.status !== 401) return response;
  const given = window.prompt("This server asks for a key:");
  if (!given) return response;
  sessionStorage.setItem(KEY, given.trim());
  return asked(path, options);
}
