const wrong = document.getElementById("wrong"), search = document.getElementById("search");
function filter() {
  const wanted = search.value.toUpperCase();
  for (const u of document.querySelectorAll(".u"))
    u.hidden = (wrong.checked && u.dataset.errors === "0")
      || !u.dataset.text.toUpperCase().includes(wanted);
}
wrong.onchange = search.oninput = filter; filter();
