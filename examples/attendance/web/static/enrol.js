// Enrolment: pictures of the browser's camera, or of files, go to the server one at a time; its
// answer is what the person should do next.
"use strict";

const box = document.getElementById("enrolment");
const video = document.getElementById("video");
const sentence = document.getElementById("sentence");
const bar = document.getElementById("bar");
const count = document.getElementById("count");
const start = document.getElementById("start");
const file = document.getElementById("file");
const finish = document.getElementById("finish-button");
const LONGEST_PX = 1280;
const GAP_MS = 250;
let stream = null;
finish.disabled = true;

function say(text) {
  if (sentence.textContent !== text) sentence.textContent = text;
}

function show(progress) {
  say(progress.advice);
  bar.max = progress.wanted;
  bar.value = progress.taken;
  count.textContent = box.dataset.count.replace("{taken}", progress.taken).replace("{wanted}", progress.wanted);
  if (progress.taken > 0 || progress.pose) finish.disabled = false;
}

async function send(blob) {
  const answer = await fetch(`/enrol/picture?session=${encodeURIComponent(box.dataset.session)}`, {
    method: "POST",
    credentials: "same-origin",
    headers: { "Content-Type": blob.type, "X-CSRF-Token": box.dataset.csrf, Accept: "application/json" },
    body: blob,
  });
  if (answer.status === 401) location.assign("/login");
  const progress = await answer.json();
  if (!answer.ok) {
    say(progress.error || box.dataset.failed);
    return { done: answer.status !== 400 };
  }
  show(progress);
  return progress;
}

function asBlob(source, width, height) {
  const scale = Math.min(1, LONGEST_PX / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function end() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  start.disabled = false;
}

async function film() {
  start.disabled = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" }, audio: false });
  } catch {
    start.disabled = false;
    say(box.dataset.noCamera);
    return;
  }
  video.srcObject = stream;
  await video.play();
  try {
    while (stream) {
      const progress = await send(await asBlob(video, video.videoWidth, video.videoHeight));
      if (progress.done) break;
      await pause(GAP_MS);
    }
  } catch {
    say(box.dataset.failed);
  }
  end();
  if (!finish.disabled) finish.focus();
}

async function files() {
  for (const one of file.files) {
    say(box.dataset.sending);
    try {
      // Drawn anew, the picture is small, upright, and without the place where it was taken.
      const picture = await createImageBitmap(one);
      await send(await asBlob(picture, picture.width, picture.height));
    } catch {
      say(box.dataset.failed);
    }
  }
  file.value = "";
}

start.addEventListener("click", film);
file.addEventListener("change", files);
window.addEventListener("pagehide", end);
if (!navigator.mediaDevices) start.hidden = true;
