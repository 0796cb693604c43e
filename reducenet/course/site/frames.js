/* A panel says how high it is: its frame grows to that. Nothing on the page scrolls twice. */
addEventListener("message", ({ source, data }) => {
  const frame = [...document.querySelectorAll("iframe")].find((one) => one.contentWindow === source);
  if (frame && Number.isFinite(data?.height)) frame.style.height = `${data.height}px`;
});
