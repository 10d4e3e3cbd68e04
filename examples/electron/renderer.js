'use strict';
/* global chat, document */
// The page: shows pieces as they come.

const log = document.querySelector('#log');
const form = document.querySelector('form');
const stop = document.querySelector('#stop');

function line(role, text = '') {
  const element = log.appendChild(document.createElement('p'));
  element.className = role;
  element.textContent = text;
  return element;
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = form.elements.text.value.trim();
  if (!text) return;
  form.reset();
  line('user', text);
  const answer = line('assistant');
  form.elements.send.disabled = true;
  stop.disabled = false;
  try {
    await chat.send(text, (piece) => answer.append(piece));
  } catch (error) {
    line('error', error.message);
  } finally {
    form.elements.send.disabled = false;
    stop.disabled = true;
  }
});

stop.addEventListener('click', () => chat.cancel());
