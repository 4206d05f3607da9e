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
