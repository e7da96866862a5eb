"""Studies on a machine that has a GPU but not all of FedBUS's packages: pack here, run there, unpack here."""
