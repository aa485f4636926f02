// Browser wallets by EIP-6963: they announce themselves, we ask (EIP-1193). No library.
"use strict";
(() => {
  const area = document.querySelector("[data-wallets]");
  if (!area) return;
  const wallets = new Map();

  const hex = (number) => `0x${BigInt(number).toString(16)}`;
  // One wallet needs no question; with several the first that announced itself is offered first.
  const pick = () => {
    const all = [...wallets.values()];
    if (all.length < 2) return all[0];
    return all.find((wallet) => window.confirm(`Use ${wallet.info.name}?`));
  };

  const addChain = async (wallet) => {
    const chainId = hex(area.dataset.chainId);
    try {
      await wallet.provider.request({ method: "wallet_switchEthereumChain", params: [{ chainId }] });
    } catch {
      await wallet.provider.request({
        method: "wallet_addEthereumChain",
        params: [{
          chainId,
          chainName: "OpenLedger",
          nativeCurrency: { name: "OPEN", symbol: "OPEN", decimals: 18 },
          rpcUrls: [area.dataset.rpc],
        }],
      });
    }
    announce(`${wallet.info.name} is on this chain`);
  };

  const connect = async (wallet) => {
    const [account] = await wallet.provider.request({ method: "eth_requestAccounts" });
    if (account) location.href = `/wallet/${encodeURIComponent(account)}`;
  };

  area.addEventListener("click", async (event) => {
    const wants = event.target.closest("[data-add-chain]") ? addChain : event.target.closest("[data-connect]") ? connect : null;
    const wallet = wants && pick();
    if (!wallet) return;
    try {
      await wants(wallet);
    } catch (error) {
      announce(`${wallet.info.name}: ${error.message ?? "refused"}`);
    }
  });

  window.addEventListener("eip6963:announceProvider", (event) => {
    wallets.set(event.detail.info.uuid, event.detail);
    area.hidden = false;
  });
  window.dispatchEvent(new Event("eip6963:requestProvider"));
})();
