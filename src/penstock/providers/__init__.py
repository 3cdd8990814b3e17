"""Out to the world: everything that answers a call, behind one Protocol (`penstock.plugins.Provider`)."""
