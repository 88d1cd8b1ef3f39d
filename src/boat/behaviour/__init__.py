"""How exported models behave, beyond their figures: tests as RecList (Chia et al., 2022) means them."""
